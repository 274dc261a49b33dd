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

/** A socket, or a room of sockets, as what takes any event. */
export interface EventSink {
  emit<E extends keyof ServerEvents>(event: E, payload: ServerEvents[E]): boolean
}

export type ChatServer = Server<DefaultEventsMap, Listeners, DefaultEventsMap, SocketData>
export type ChatSocket = Socket<DefaultEventsMap, Listeners, DefaultEventsMap, SocketData>

/** A connection of Engine.IO, which may bear a socket. */
export type EngineConnection = ChatSocket['conn']
