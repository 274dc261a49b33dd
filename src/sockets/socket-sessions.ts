import type { Sessions } from '../auth/sessions.js'
import type { Access } from '../auth/tokens.js'
import { AppError } from '../errors.js'
import type { ChatServer, ChatSocket } from './chat-socket.js'
import { closeTransport } from './open-connections.js'

/** How often sockets are looked through for tokens that expire, in milliseconds. */
const lookEveryMs = 250
/** How long before its end a socket is told of it, in milliseconds. */
const warningMs = 60_000

/** The session and the token behind each socket: checked at every event, and told of their ends. */
export class SocketSessions {
  readonly #unwatch = new WeakMap<ChatSocket, () => void>()
  // All are looked at: a timer for each would cost more.
  readonly #timer = setInterval(() => this.#look(), lookEveryMs).unref()

  constructor(
    private readonly io: ChatServer,
    private readonly sessions: Pick<Sessions, 'authenticate' | 'assertLive' | 'watch'>,
  ) {}

  /**
   * Authenticates a socket that asks to be connected.
   * @param token what it gave, with or without `Bearer `.
   * @throws AppError UNAUTHORIZED, TOKEN_EXPIRED.
   */
  async open(socket: ChatSocket, token: unknown): Promise<void> {
    const access = await this.#authenticate(token)
    const { userId, sessionId } = access
    Object.assign(socket.data, { userId, sessionId, ...tokenTimes(access) })
  }

  /** Watches the session of a socket that is connected. */
  admit(socket: ChatSocket): void {
    const unwatch = this.sessions.watch(socket.data.sessionId, (code) => {
      socket.emit('session-ended', { code })
      // After the refusal of an event that found it out. A client does not connect again by itself after this.
      setImmediate(() => socket.disconnect())
    })
    this.#unwatch.set(socket, unwatch)
  }

  forget(socket: ChatSocket): void {
    this.#unwatch.get(socket)?.()
  }

  /** @throws AppError TOKEN_EXPIRED, or as why the session ended. */
  async check({ data }: ChatSocket): Promise<void> {
    await this.sessions.assertLive(data)
    if (data.expiresAt <= Date.now()) throw new AppError('TOKEN_EXPIRED')
  }

  /**
   * Takes another token of a socket's session.
   * @returns until when the socket may stay.
   * @throws AppError UNAUTHORIZED, TOKEN_EXPIRED.
   */
  async renew({ data }: ChatSocket, token: string): Promise<Date> {
    const access = await this.#authenticate(token)
    if (access.sessionId !== data.sessionId) {
      throw new AppError('UNAUTHORIZED', { message: 'That token belongs to another session.' })
    }
    if (access.expiresAt.getTime() > data.expiresAt) Object.assign(data, tokenTimes(access))
    return new Date(data.expiresAt)
  }

  #authenticate(token: unknown): Promise<Access> {
    const bare = typeof token === 'string' && /^(?:Bearer +)?(\S+)$/i.exec(token)?.[1]
    if (!bare) throw new AppError('UNAUTHORIZED')
    return this.sessions.authenticate(bare)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const now = Date.now()
    for (const socket of this.io.sockets.sockets.values()) {
      const { expiresAt, warnAt } = socket.data
      if (expiresAt <= now) {
        // Not `disconnect`: a client connects again after this, and asks for a fresh token.
        closeTransport(socket.conn)
      } else if (warnAt <= now) {
        socket.data.warnAt = Number.POSITIVE_INFINITY
        socket.emit('token-expiring', { expiresAt: new Date(expiresAt).toISOString() })
      }
    }
  }
}

/** When a socket's token expires, and when the socket is told of it; in milliseconds since 1970. */
function tokenTimes({ expiresAt }: Access): { expiresAt: number; warnAt: number } {
  const now = Date.now()
  const end = expiresAt.getTime()
  return { expiresAt: end, warnAt: Math.max(end - warningMs, now + (end - now) / 2) }
}
