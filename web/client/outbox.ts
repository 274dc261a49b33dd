import { backoffMs, pause } from './backoff.js'
import { ChatError, closedError } from './chat-error.js'
import { Listeners } from './listeners.js'
import { readJson, type WebStorage } from './token-store.js'
import type { MessageInput, Turn } from './types.js'

/** A message that is not yet known to be stored. */
export interface PendingMessage extends MessageInput {
  chatId: string
  /** Names the message: however often it is sent, it is stored once. */
  clientMessageId: string
  userId: string
  /** When it was written, in milliseconds since 1970. */
  writtenAt: number
}

/** Where pending messages are kept. */
export interface PendingStore {
  read(): readonly PendingMessage[]
  write(messages: readonly PendingMessage[]): void
}

export interface OutboxEvents {
  pending: readonly PendingMessage[]
  /** The server refused a message for good; it is pending no more. */
  'send-failed': { message: PendingMessage; error: ChatError }
}

const maxPending = 100
/** How often an error that the server answers with is tried again. */
const maxRefusals = 5
/** The session ended: the message waits until its user signs in again. */
const sessionCodes: ReadonlySet<string> = new Set([
  'SIGNED_OUT',
  'LOGGED_OUT',
  'TOKEN_REUSED',
  'CLOSED',
])

/** Keeps pending messages as long as this object lives. */
export function memoryPending(): PendingStore {
  let kept: readonly PendingMessage[] = []
  return {
    read: () => kept,
    write(messages) {
      kept = messages
    },
  }
}

/** Keeps pending messages in a browser's storage, over reloads. */
export function storedPending(storage: WebStorage, key = 'durable-chat.pending'): PendingStore {
  return {
    read: () => readJson(storage, key, isPendingList) ?? [],
    write(messages) {
      if (messages.length > 0) storage.setItem(key, JSON.stringify(messages))
      else storage.removeItem(key)
    },
  }
}

function isPendingList(value: unknown): value is PendingMessage[] {
  const fields = ['chatId', 'clientMessageId', 'userId', 'content'] as const
  const isPending = (message: Partial<PendingMessage> | null) =>
    fields.every((field) => typeof message?.[field] === 'string')
  return Array.isArray(value) && value.every(isPending)
}

/**
 * Sends messages in the order of each chat, and keeps each until the server has it: over broken
 * connections, restarts and, with a store that lasts, reloads.
 */
export class Outbox {
  readonly events = new Listeners<OutboxEvents>()
  readonly #store: PendingStore
  readonly #deliver: (message: PendingMessage) => Promise<Turn>
  /** The last delivery of each chat. */
  readonly #last = new Map<string, Promise<unknown>>()
  /** What this client is delivering. */
  readonly #deliveries = new Map<string, Promise<Turn>>()
  readonly #discarded = new Set<string>()
  #wake = new AbortController()
  #stopped: ChatError | undefined

  /** @param deliver sends a message once; the same twice must store it once. */
  constructor(store: PendingStore, deliver: (message: PendingMessage) => Promise<Turn>) {
    this.#store = store
    this.#deliver = deliver
  }

  get pending(): readonly PendingMessage[] {
    return this.#store.read()
  }

  /** @throws ChatError: why the server refused it for good, or that the session ended before it was sent. */
  send(message: PendingMessage): Promise<Turn> {
    const kept = this.#store.read()
    if (!kept.some(({ clientMessageId }) => clientMessageId === message.clientMessageId)) {
      if (kept.length >= maxPending) {
        const told = `${maxPending} messages wait to be sent already.`
        return Promise.reject(new ChatError('TOO_MANY_PENDING', told))
      }
      this.#keep([...kept, message])
    }
    return this.#queue(message)
  }

  /** Sends what was kept for a user. */
  resume(userId: string): void {
    this.#stopped = undefined
    for (const message of this.#store.read()) {
      // A failure is told by `send-failed`.
      if (message.userId === userId) this.#queue(message).catch(() => {})
    }
  }

  /** Gives a message up, unless it is on its way already. */
  discard(clientMessageId: string): void {
    if (this.#deliveries.has(clientMessageId)) this.#discarded.add(clientMessageId)
    else this.#remove({ clientMessageId })
    this.wake()
  }

  /** The connection is back: waits no longer. */
  wake(): void {
    this.#wake.abort()
    this.#wake = new AbortController()
  }

  /** Sends nothing more; what is pending stays kept. */
  stop(reason: ChatError = closedError()): void {
    this.#stopped = reason
    this.wake()
  }

  /** Forgets what is pending for a user, whose account is gone. */
  forget(userId: string): void {
    this.#write(this.#store.read().filter((message) => message.userId !== userId))
  }

  #queue(message: PendingMessage): Promise<Turn> {
    const { chatId, clientMessageId } = message
    const known = this.#deliveries.get(clientMessageId)
    if (known) return known
    const before = this.#last.get(chatId) ?? Promise.resolve()
    const delivery = before.then(() => this.#finish(message))
    // The next one of the chat is sent whatever became of this one.
    const settled = delivery
      .catch(() => {})
      .then(() => {
        this.#deliveries.delete(clientMessageId)
        this.#discarded.delete(clientMessageId)
        if (this.#last.get(chatId) === settled) this.#last.delete(chatId)
      })
    this.#last.set(chatId, settled)
    this.#deliveries.set(clientMessageId, delivery)
    return delivery
  }

  async #finish(message: PendingMessage): Promise<Turn> {
    try {
      const turn = await this.#untilAnswered(message)
      this.#remove(message)
      return turn
    } catch (error) {
      if (error instanceof ChatError && !sessionCodes.has(error.code)) {
        this.#remove(message)
        this.events.tell('send-failed', { message, error })
      }
      throw error
    }
  }

  async #untilAnswered(message: PendingMessage): Promise<Turn> {
    let refusals = 0
    for (let failures = 0; ; failures += 1) {
      if (this.#stopped) throw this.#stopped
      if (this.#discarded.has(message.clientMessageId)) throw discarded()
      try {
        return await this.#deliver(message)
      } catch (error) {
        if (!(error instanceof ChatError && error.retryable)) throw error
        if (!isUnanswered(error)) refusals += 1
        if (refusals === maxRefusals) throw error
        await pause(Math.max(error.retryAfterMs, backoffMs(failures)), this.#wake.signal)
      }
    }
  }

  /** A storage that is full must not stop what can be sent now. */
  #keep(messages: readonly PendingMessage[]): void {
    try {
      this.#write(messages)
    } catch {}
  }

  #remove({ clientMessageId }: Pick<PendingMessage, 'clientMessageId'>): void {
    this.#write(this.#store.read().filter((kept) => kept.clientMessageId !== clientMessageId))
  }

  #write(messages: readonly PendingMessage[]): void {
    this.#store.write(messages)
    this.events.tell('pending', messages)
  }
}

const discarded = () => new ChatError('DISCARDED', 'The message was given up before it was sent.')

/** Nobody is known to have decided on the message. */
const isUnanswered = ({ code }: ChatError) =>
  code === 'NETWORK' || code === 'TIMEOUT' || code === 'BAD_RESPONSE'
