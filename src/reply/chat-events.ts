import type { ServerEvents } from '../../schemas/events.js'

/** What is told to those who look at a chat. */
export type ChatEventName = 'message' | 'message-start' | 'message-chunk'
/** What is told to all of a user's devices. */
export type UserEventName = 'chat-created' | 'chat-updated' | 'chat-deleted'

/** Whether this server says it, or another one did. */
export type Origin = 'here' | 'peer'

export interface ChatEventsListener {
  toChat<E extends ChatEventName>(
    chatId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin,
  ): void
  toUser<E extends UserEventName>(
    userId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin,
  ): void
}

/** For how long, in milliseconds, something may yet be said of a chat that is gone. */
const goneMs = 10_000

/**
 * Where the engine says what happens and transports listen; neither knows the other. Delivery is
 * synchronous, so what is said in one turn of the loop is heard in the order it was said.
 */
export class ChatEvents {
  readonly #listeners = new Set<ChatEventsListener>()
  readonly #goneChats = new Set<string>()

  /** @param onFault told of what a listener throws, which concerns neither the engine nor the others. */
  constructor(private readonly onFault: (error: unknown) => void) {}

  /** @returns the way to stop listening. */
  listen(listener: ChatEventsListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** A chat was deleted, here or at another server: no news of it is told after that of its end. */
  chatGone(chatId: string): void {
    this.#goneChats.add(chatId)
    setTimeout(() => this.#goneChats.delete(chatId), goneMs).unref()
  }

  /** Whether a chat was deleted a moment ago: what was read or stored of it before is void. */
  isGone(chatId: string): boolean {
    return this.#goneChats.has(chatId)
  }

  toChat<E extends ChatEventName>(
    chatId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin = 'here',
  ): void {
    for (const listener of this.#listeners) {
      try {
        listener.toChat(chatId, event, payload, origin)
      } catch (error) {
        this.onFault(error)
      }
    }
  }

  toUser<E extends UserEventName>(
    userId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin = 'here',
  ): void {
    if ('chat' in payload && this.isGone(payload.chat.id)) return
    for (const listener of this.#listeners) {
      try {
        listener.toUser(userId, event, payload, origin)
      } catch (error) {
        this.onFault(error)
      }
    }
  }
}
