import { setTimeout as delay } from 'node:timers/promises'
import { isClosing, terminate } from './backlog.js'
import type { EngineConnection } from './chat-socket.js'

/** How long a connection may take to read what it was sent before it closes, in milliseconds. */
const closeGraceMs = 1000
const closing = new WeakSet<EngineConnection>()

/** How often closing connections are looked at, in milliseconds. */
const closeCheckMs = 10

/** How many namespaces a connection may ask for; there is one, so a client that asks for more errs. */
const maxConnects = 10
/** How a Socket.IO packet begins that asks for a namespace. */
const connectPacket = '0'

/**
 * Closes a connection once its client has read what it was sent, or after a second. The client's own
 * `disconnect` reason is `transport close`, after which it connects again by itself.
 */
export function closeTransport(connection: EngineConnection): void {
  if (closing.has(connection)) return
  closing.add(connection)
  const { transport } = connection
  // Where no poll waits for an answer Engine.IO would wait half a minute for the next.
  if (transport.name === 'polling' && !transport.writable) {
    connection.once('drain', () => connection.close(true))
  } else connection.close()
  setTimeout(terminate, closeGraceMs, connection).unref()
}

/**
 * The open connections. Each may bear one socket, and those that bear none are closed: Socket.io
 * itself makes a socket for each CONNECT packet that comes before one of them is authenticated.
 */
export class OpenConnections {
  readonly #open = new Set<EngineConnection>()
  readonly #claimed = new WeakSet<EngineConnection>()

  /** Counts what a new connection asks for. */
  add(connection: EngineConnection): void {
    this.#open.add(connection)
    connection.once('close', () => this.#open.delete(connection))
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

  /**
   * Closes every connection, those without a handshake too, so that its client connects again, to
   * another server. One that does not answer within `graceMs` is terminated.
   */
  async close(graceMs: number): Promise<void> {
    const connections = [...this.#open]
    for (const connection of connections) connection.close()
    const deadline = performance.now() + graceMs
    while (connections.some(isClosing) && performance.now() < deadline) await delay(closeCheckMs)
    for (const connection of connections) if (isClosing(connection)) terminate(connection)
  }
}
