import type { EngineConnection } from './chat-socket.js'

/** What engine.io and ws know of a connection and do not declare. It is read here, never written. */
interface Connection {
  writeBuffer: readonly { data?: { length: number } }[]
  transport: {
    writable: boolean
    /** Of a connection that speaks WebSocket. */
    socket?: { bufferedAmount: number; readyState: number; terminate(): void }
  }
}

const inside = (connection: EngineConnection) => connection as unknown as Connection

/** A WebSocket's state once it is closed. */
const closedState = 3

/** What waits for a client to read it, in packets and in bytes. */
export function backlogOf(connection: EngineConnection) {
  const { writeBuffer, transport } = inside(connection)
  let bytes = transport.socket?.bufferedAmount ?? 0
  for (const packet of writeBuffer) bytes += packet.data?.length ?? 0
  const isDrained = bytes === 0 && writeBuffer.length === 0 && transport.writable
  return { packets: writeBuffer.length, bytes, isDrained }
}

/**
 * Ends a connection at once. Closing it would wait for a client that does not read; the client may
 * connect again and rejoin.
 */
export function terminate(connection: EngineConnection): void {
  const { socket } = inside(connection).transport
  if (socket) socket.terminate()
  else connection.close(true)
}

/** Whether the other side has yet to agree that the WebSocket is closed: engine.io does not wait for it. */
export function isClosing(connection: EngineConnection): boolean {
  const { socket } = inside(connection).transport
  return socket !== undefined && socket.readyState !== closedState
}
