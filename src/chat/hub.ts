import type { ServerEvents } from '../../schemas/events.js'

/** What is told to those who look at a chat. */
export type ChatEventName = 'message' | 'message-start' | 'message-chunk'
/** What is told to all of a user's devices. */
export type UserEventName = 'chat-created' | 'chat-updated' | 'chat-deleted'

/** Whether this server says it, or another one did. */
export type Origin = 'here' | 'peer'

export interface HubListener {
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

/**
 * Where the engine says what happens and transports listen; neither knows the other. Delivery is
 * synchronous, so what is said in one turn of the loop is heard in the order it was said.
 */
export class Hub {
  readonly #listeners = new Set<HubListener>()

  /** @returns the way to stop listening. */
  listen(listener: HubListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  toChat<E extends ChatEventName>(
    chatId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin = 'here',
  ): void {
    for (const listener of this.#listeners) listener.toChat(chatId, event, payload, origin)
  }

  toUser<E extends UserEventName>(
    userId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin = 'here',
  ): void {
    for (const listener of this.#listeners) listener.toUser(userId, event, payload, origin)
  }
}
