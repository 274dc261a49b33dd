export type {
  ChatClientEvents,
  ChatClientOptions,
  FollowOptions,
  SendOptions,
} from './chat-client.js'
export { ChatClient } from './chat-client.js'
export { ChatError } from './chat-error.js'
export type { ChatListEvents, LiveChatList } from './chat-list.js'
export type { ConnectionState } from './connection.js'
export type { Conversation, ConversationEvents, MessageView } from './conversation.js'
export { type FetchLike, followReply } from './follow.js'
export { memoryPending, type PendingMessage, type PendingStore, storedPending } from './outbox.js'
export { type ChunkOutcome, ReplyText } from './reply-text.js'
export type { CallOptions, PageOptions, Rest } from './rest.js'
export { keepSignedIn, type SignInHooks } from './sign-in.js'
export { type ChatSocket, ChatStream, type ChatStreamHooks } from './stream.js'
export {
  memoryTokens,
  storedTokens,
  type TokenStore,
  type Tokens,
  type WebStorage,
} from './token-store.js'
export type * from './types.js'
