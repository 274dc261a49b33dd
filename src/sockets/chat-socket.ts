import type { Socket as TcpSocket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { DefaultEventsMap, Server, Socket } from 'socket.io'
import type { ServerEvents } from '../../schemas/events.js'

/** What a socket's handshake proved. */
interface SocketData {
  userId: string
  sessionId: string
  /** When its token expires, and when it is told of that, in milliseconds since 1970. */
  expiresAt: number
  warnAt: number
}

type Listeners = { [E in keyof ServerEvents]: (payload: ServerEvents[E]) => void }
export type ChatServer = Server<DefaultEventsMap, Listeners, DefaultEventsMap, SocketData>
export type ChatSocket = Socket<DefaultEventsMap, Listeners, DefaultEventsMap, SocketData>

/** What engine.io's types leave out of a connection, whose transport may be a WebSocket. */
interface Connection {
  readyState: string
  upgrading: boolean
  close(discard?: boolean): void
  writeBuffer: readonly { data?: { length: number } }[]
  transport: {
    name: string
    writable: boolean
    socket?: {
      bufferedAmount?: number
      readyState?: number
      terminate?: () => void
      /** The TCP connection beneath. */
      _socket?: TcpSocket
    }
  }
}

const connectionOf = (socket: ChatSocket) => socket.conn as unknown as Connection

/** A connection of Engine.IO, which may bear a socket. */
export type EngineConnection = ChatSocket['conn']

/** How long a connection may take to read what it was sent before it closes, in milliseconds. */
const closeGraceMs = 1000
const closing = new WeakSet<EngineConnection>()

const nothing = Object.freeze({})

/**
 * Lets go of what a client sent to connect, its token among it: a kilobyte for each socket. The
 * request is emptied, since engine.io holds on to it for as long as the connection lasts.
 */
export function forgetHandshake(socket: ChatSocket): void {
  Object.assign(socket.request, { headers: nothing, rawHeaders: [], _query: nothing })
  Object.assign(socket.handshake, { headers: nothing, auth: nothing, query: nothing })
}

/** How often closing connections are looked at, in milliseconds. */
const closeCheckMs = 10

/** A WebSocket's states. */
const openState = 1
const closedState = 3

/**
 * The TCP connection of a socket that speaks WebSocket, if nothing waits to be written to it but
 * what it holds back itself, corked.
 */
export function idleConnectionOf(socket: ChatSocket): TcpSocket | undefined {
  const { readyState, upgrading, writeBuffer, transport } = connectionOf(socket)
  if (readyState !== 'open' || upgrading || writeBuffer.length > 0) return undefined
  if (transport.name !== 'websocket' || transport.socket?.readyState !== openState) return undefined
  const connection = transport.socket._socket
  if (!connection) return undefined
  return connection.writableLength === 0 || connection.writableCorked > 0 ? connection : undefined
}

/** What waits for a socket to read it, in packets and in bytes. */
export function backlogOf(socket: ChatSocket) {
  const { writeBuffer, transport } = connectionOf(socket)
  let bytes = transport.socket?.bufferedAmount ?? 0
  for (const packet of writeBuffer) bytes += packet.data?.length ?? 0
  const isDrained = bytes === 0 && writeBuffer.length === 0 && transport.writable
  return { packets: writeBuffer.length, bytes, isDrained }
}

/**
 * Ends a connection that does not read. Not `disconnect`, which waits for the queue; the client may
 * connect again and rejoin.
 */
export function cutOff(socket: ChatSocket): void {
  terminate(socket.conn)
}

function terminate(connection: EngineConnection): void {
  const { transport } = connection as unknown as Connection
  if (transport.socket?.terminate) transport.socket.terminate()
  else connection.close(true)
}

/**
 * Closes a connection once its client has read what it was sent, or after a second. The client's own
 * `disconnect` reason is `transport close`, after which it connects again by itself.
 */
export function closeTransport(connection: EngineConnection): void {
  if (closing.has(connection)) return
  closing.add(connection)
  const { transport } = connection as unknown as Connection
  // Where no poll waits for an answer Engine.IO would wait half a minute for the next.
  if (transport.name === 'polling' && !transport.writable) {
    connection.once('drain', () => connection.close(true))
  } else connection.close()
  setTimeout(terminate, closeGraceMs, connection).unref()
}

/** How many namespaces a connection may ask for; there is one, so a client that asks for more errs. */
const maxConnects = 10
/** How a Socket.IO packet begins that asks for a namespace. */
const connectPacket = '0'

/**
 * Lets a connection bear one socket, and closes those that bear none. Socket.io itself makes a socket
 * for each CONNECT packet that comes before one of them is authenticated.
 */
export class OneSocketEach {
  readonly #claimed = new WeakSet<EngineConnection>()

  /** Counts what a new connection asks for. */
  watch(connection: EngineConnection): void {
    let connects = 0
    connection.on('packet', ({ type, data }: { type: string; data?: unknown }) => {
      if (type !== 'message' || typeof data !== 'string' || !data.startsWith(connectPacket)) return
      connects += 1
      if (connects > maxConnects) connection.close(true)
      // Socket.io has refused a namespace that is not there; by then it has shown one that is.
      else setImmediate(() => this.#claimed.has(connection) || closeTransport(connection))
    })
  }

  /** @returns false when the connection has, or is about to have, a socket already. */
  claim(connection: EngineConnection): boolean {
    if (this.#claimed.has(connection)) return false
    this.#claimed.add(connection)
    return true
  }
}

/**
 * Closes every connection, those without a handshake too, so that its client connects again, to
 * another server. One that does not answer within `graceMs` is cut off.
 */
export async function closeConnections(io: ChatServer, graceMs: number): Promise<void> {
  const { clients } = io.engine as unknown as { clients: Record<string, Connection> }
  const connections = Object.values(clients)
  // Engine.io forgets a WebSocket that it closes before the other side has answered.
  const open = new Set(connections.flatMap(({ transport }) => transport.socket ?? []))
  for (const connection of connections) connection.close()
  const deadline = performance.now() + graceMs
  while (open.size > 0 && performance.now() < deadline) {
    await delay(closeCheckMs)
    for (const socket of open) if (socket.readyState === closedState) open.delete(socket)
  }
  for (const socket of open) socket.terminate?.()
}
