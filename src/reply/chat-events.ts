import type { ServerEvents } from '../../schemas/events.js'
import type { Log } from '../logging.js'

/** Events to the room of a chat. */
export type ChatEventName = 'message' | 'message-start' | 'message-chunk'
/** Events to all of a user's devices. */
export type UserEventName = 'chat-created' | 'chat-updated' | 'chat-deleted'

/** Whether the event is this server's, or was heard from another one. */
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

/** How long events of a deleted chat may still come, in milliseconds. */
const goneMs = 10_000

/** The event bus between the engine and the transports. Delivery is synchronous and in order. */
export class ChatEvents {
  readonly #listeners = new Set<ChatEventsListener>()
  readonly #goneChats = new Set<string>()

  /** @param log told of what a listener throws; the engine and the other listeners go on. */
  constructor(private readonly log: Pick<Log, 'error'>) {}

  /** @returns the way to stop listening. */
  listen(listener: ChatEventsListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** A chat was deleted, here or at another server: nothing is told of it any more. */
  chatGone(chatId: string): void {
    this.#goneChats.add(chatId)
    setTimeout(() => this.#goneChats.delete(chatId), goneMs).unref()
  }

  /** Whether a chat was deleted a moment ago; what was read of it before is out of date. */
  isGone(chatId: string): boolean {
    return this.#goneChats.has(chatId)
  }

  toChat<E extends ChatEventName>(
    chatId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin = 'here',
  ): void {
    this.#tell((listener) => listener.toChat(chatId, event, payload, origin))
  }

  toUser<E extends UserEventName>(
    userId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin = 'here',
  ): void {
    if ('chat' in payload && this.isGone(payload.chat.id)) return
    this.#tell((listener) => listener.toUser(userId, event, payload, origin))
  }

  #tell(tell: (listener: ChatEventsListener) => void): void {
    for (const listener of this.#listeners) {
      try {
        tell(listener)
      } catch (error) {
        this.log.error(
          { err: error },
          'a listener of chat events failed; clients may have missed one',
        )
      }
    }
  }
}
