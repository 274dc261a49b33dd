import type { LiveReply } from '../reply/live-reply.js'
import type { MessageRow } from '../stores/store.js'

/** What other servers run, as far as somebody listens to it here. */
export interface Cluster {
  /**
   * Hears what others say in a chat, or of a user's chats, and tells it to this server's hub.
   * @returns the way to stop, once it is heard; nothing where there is nobody to hear.
   */
  listenToChat(chatId: string): Promise<() => void> | undefined
  listenToUser(userId: string): Promise<() => void> | undefined
  /** A reply of a chat that is listened to. */
  live(messageId: string): LiveReply | undefined
  liveOfChat(chatId: string): LiveReply[]
  /** Brings the replies of a chat that is listened to up to what the store and the log say. */
  refresh(chatId: string): Promise<void>
  /** Has a reply stopped by whoever holds it; resolves when it has ended, or nobody answered. */
  stop(reply: MessageRow): Promise<void>
  /** Has others end what they run of a chat that is gone. */
  dropChat(chatId: string): void
  /** This server has claimed the reply, or ended it: what others told of it is over. */
  claimed(messageId: string): void
  close(): Promise<void>
}

/** Where there is one server alone. */
export const noCluster: Cluster = {
  listenToChat: () => undefined,
  listenToUser: () => undefined,
  live: () => undefined,
  liveOfChat: () => [],
  refresh: async () => {},
  stop: async () => {},
  dropChat: () => {},
  claimed: () => {},
  close: async () => {},
}
