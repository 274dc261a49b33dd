import { type Static, Type } from '@sinclair/typebox'
import type { SessionEnd } from './auth.js'
import { Chat } from './chats.js'
import { Closed, Id, Model } from './common.js'
import {
  Content,
  GenerationOptions,
  type Message,
  type MessageChunk,
  type MessageStart,
  MessageStatus,
  ModelName,
} from './messages.js'

export const JoinChat = Model(
  'JoinChat',
  Closed({
    chatId: Id,
    messageId: Type.Optional(Id),
    epoch: Type.Optional(Type.Integer({ minimum: 1 })),
    offset: Type.Optional(Type.Integer({ minimum: 0 })),
  }),
)
export type JoinChat = Static<typeof JoinChat>

export const LeaveChat = Model('LeaveChat', Closed({ chatId: Id }))
export type LeaveChat = Static<typeof LeaveChat>

export const ChatMessage = Model(
  'ChatMessage',
  Closed({
    chatId: Id,
    content: Content,
    clientMessageId: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
    model: Type.Optional(ModelName),
    options: Type.Optional(GenerationOptions),
  }),
)
export type ChatMessage = Static<typeof ChatMessage>

export const StopMessage = Model('StopMessage', Closed({ chatId: Id, messageId: Id }))
export type StopMessage = Static<typeof StopMessage>

export const Authenticate = Model(
  'Authenticate',
  Closed({ token: Type.String({ minLength: 1, maxLength: 4096 }) }),
)
export type Authenticate = Static<typeof Authenticate>

/** A reply in the answer to `join-chat`: its text from `offset` on, and all of its thinking. */
export const ActiveReply = Model(
  'ActiveReply',
  Type.Object({
    messageId: Id,
    epoch: Type.Integer(),
    status: MessageStatus,
    offset: Type.Integer(),
    text: Type.String(),
    thinking: Type.Optional(Type.String()),
    position: Type.Optional(Type.Integer()),
  }),
)
export type ActiveReply = Static<typeof ActiveReply>

const ChatEvent = Model('ChatEvent', Type.Object({ chat: Chat }))
type ChatEvent = Static<typeof ChatEvent>

/** Each event that the server sends, with its payload. */
export interface ServerEvents {
  message: Message
  'message-start': MessageStart
  'message-chunk': MessageChunk
  'chat-created': ChatEvent
  'chat-updated': ChatEvent
  'chat-deleted': { chatId: string }
  /** Sent to one socket, whose token is about to expire. */
  'token-expiring': { expiresAt: string }
  /** Sent to one socket, before the server disconnects it for good. */
  'session-ended': { code: SessionEnd }
}
