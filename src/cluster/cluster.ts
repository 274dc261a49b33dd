import type { LiveReply } from '../reply/live-reply.js'
import type { MessageRow } from '../stores/store.js'

/** The replies of other servers, while somebody here listens to their chats. */
export interface Cluster {
  /**
   * Passes what other servers tell of a chat, or of a user's chats, to this server's ChatEvents.
   * @returns the way to stop, once the subscription is open; undefined where there is one server.
   */
  listenToChat(chatId: string): Promise<() => void> | undefined
  listenToUser(userId: string): Promise<() => void> | undefined
  /** A reply of a chat that is listened to. */
  live(messageId: string): LiveReply | undefined
  liveOfChat(chatId: string): LiveReply[]
  /** Brings the replies of a chat that is listened to up to date with the store and the log. */
  refresh(chatId: string): Promise<void>
  /** Has its holder stop a reply; resolves when it has ended, or after a second without an answer. */
  stop(reply: MessageRow): Promise<void>
  /** Has other servers end what they run of a deleted chat. */
  dropChat(chatId: string): void
  /** Stops following a reply: this server holds it now, or has ended it. */
  forget(messageId: string): void
  close(): Promise<void>
}

/** For a server that is alone. */
export const noCluster: Cluster = {
  listenToChat: () => undefined,
  listenToUser: () => undefined,
  live: () => undefined,
  liveOfChat: () => [],
  refresh: async () => {},
  stop: async () => {},
  dropChat: () => {},
  forget: () => {},
  close: async () => {},
}
