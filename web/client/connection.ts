import { io, type Socket } from 'socket.io-client'
import { asFault, ChatError, faultError, networkError, timeoutError } from './chat-error.js'
import { Listeners } from './listeners.js'
import { keepSignedIn, type SignedSocket } from './sign-in.js'
import type { ClientAnswers, ClientEvents, ClientPayloads, ServerEvents } from './types.js'

/** What the connection does; `error` is why it is not there, where that is known. */
export interface ConnectionState {
  /** `closed`: nobody is signed in, or it was not asked for, or the server closed it for good. */
  status: 'closed' | 'connecting' | 'online'
  error?: ChatError
}

interface ConnectionParts {
  url: string
  /** A valid access token that is not the refused one. */
  token: (refused?: string) => Promise<string>
  /** The server closed the socket for good. */
  onEnd: (code: string, message: string) => void
  timeoutMs: number
}

type Answer<E extends keyof ClientAnswers> = Omit<ClientAnswers[E], 'ok'>

/** One socket for all chats: signed in while the session lasts, reconnected whenever it breaks. */
export class Connection {
  readonly socket: Socket<ServerEvents, ClientEvents>
  readonly events = new Listeners<{ connection: ConnectionState }>()
  readonly #parts: ConnectionParts
  #state: ConnectionState = { status: 'closed' }
  #stopSignIn: (() => void) | undefined

  constructor(parts: ConnectionParts) {
    this.#parts = parts
    this.socket = io(parts.url, {
      autoConnect: false,
      // Polling needs a balancer that keeps a client with its server.
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 250,
      reconnectionDelayMax: 5000,
    })
    this.socket.on('connect', () => this.#change({ status: 'online' }))
    this.socket.on('connect_error', (error) => {
      if (this.#stopSignIn) this.#change({ status: 'connecting', error: this.#errorOf(error) })
    })
    this.socket.on('disconnect', () => {
      if (this.socket.active) this.#change({ status: 'connecting' })
      else this.close(new ChatError('DISCONNECTED', 'The server has closed the socket for good.'))
    })
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** Connects, and stays connected until `close` or the session's end. */
  open(): void {
    if (this.#stopSignIn) return
    this.#stopSignIn = keepSignedIn(this.socket as unknown as SignedSocket, {
      token: this.#parts.token,
      onEnd: (code, message) => {
        this.close(new ChatError(code, message))
        this.#parts.onEnd(code, message)
      },
    })
    networkEvents.addEventListener?.('online', this.#retryNow)
    this.#change({ status: 'connecting' })
    this.socket.connect()
  }

  close(error?: ChatError): void {
    if (!this.#stopSignIn) return
    this.#stopSignIn()
    this.#stopSignIn = undefined
    networkEvents.removeEventListener?.('online', this.#retryNow)
    this.socket.disconnect()
    this.#change({ status: 'closed', ...(error && { error }) })
  }

  /**
   * Sends an event and waits for its acknowledgement.
   * @throws ChatError: the server's; NETWORK or TIMEOUT when it is not known whether it was heard.
   */
  async ask<E extends keyof ClientPayloads>(
    event: E,
    payload: ClientPayloads[E],
  ): Promise<Answer<E>> {
    const { url, timeoutMs } = this.#parts
    if (!this.socket.connected) throw this.#notConnected()
    const answer = (await (this.socket as unknown as SignedSocket)
      .timeout(timeoutMs)
      .emitWithAck(event, payload)
      .catch((cause: unknown) => {
        throw this.socket.connected ? timeoutError(url, timeoutMs) : this.#notConnected(cause)
      })) as { ok: boolean; error?: unknown } & Answer<E>
    if (answer.ok) return answer
    const fault = asFault(answer.error)
    throw fault ? faultError(fault) : new ChatError('BAD_RESPONSE', `${event} was refused.`)
  }

  /** The browser is online again: waits for no timer. */
  readonly #retryNow = () => {
    if (this.socket.connected) return
    this.socket.disconnect().connect()
  }

  #notConnected(cause: unknown = this.#state.error): ChatError {
    return new ChatError('NETWORK', 'The socket is not connected.', { retryable: true, cause })
  }

  #errorOf(error: Error & { data?: unknown }): ChatError {
    const fault = asFault(error.data)
    return fault ? faultError(fault) : networkError(error, this.#parts.url)
  }

  #change(state: ConnectionState): void {
    const { status, error } = this.#state
    if (status === state.status && error?.code === state.error?.code) return
    this.#state = state
    this.events.tell('connection', state)
  }
}

/** Browsers tell when the network is back. */
const networkEvents = globalThis as unknown as Partial<EventTarget>
