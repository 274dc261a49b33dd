import type { Socket as TcpSocket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { DefaultEventsMap, Server, Socket } from 'socket.io'
import type { ServerEvents } from '../../schemas/events.js'

/** What a socket's handshake proved. */
interface SocketData {
  userId: string
  sessionId: string
  /** When its token expires, in milliseconds since 1970. */
  expiresAt: number
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
  const { transport } = connectionOf(socket)
  if (transport.socket?.terminate) transport.socket.terminate()
  else socket.conn.close(true)
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
