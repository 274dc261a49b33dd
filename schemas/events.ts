import { type Static, type TProperties, Type } from '@sinclair/typebox'
import { SessionEnd } from './auth.js'
import { Chat } from './chats.js'
import { Closed, EventFault, Id, Model, Timestamp } from './common.js'
import {
  Content,
  GenerationOptions,
  Message,
  MessageChunk,
  MessageStart,
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
const ChatDeleted = Model('ChatDeleted', Type.Object({ chatId: Id }))
const TokenExpiring = Model('TokenExpiring', Type.Object({ expiresAt: Timestamp }))
const SessionEnded = Model('SessionEnded', Type.Object({ code: SessionEnd }))

const refusal = { ok: Type.Literal(false), error: EventFault }
/** The acknowledgement of an event that was refused. */
export const Refusal = Model('Refusal', Type.Object(refusal))
const EventError = Model('EventError', Type.Object({ event: Type.String(), ...refusal }))

/** The `auth` of a socket that a client opens. The token may come in the `Authorization` header instead. */
export const Handshake = Model(
  'Handshake',
  Type.Object({
    token: Type.Optional(
      Type.String({ description: 'An access token, with or without `Bearer ` before it.' }),
    ),
  }),
)
export const SocketOpened = Model(
  'SocketOpened',
  Type.Object({ sid: Type.String({ description: 'The socket’s id; of no use to a client.' }) }),
)
/** The packet that refuses a socket, which clients report as `connect_error`. */
export const ConnectionRefusal = Model(
  'ConnectionRefusal',
  Type.Object({ message: Type.String({ description: 'As in `data`.' }), data: EventFault }),
)

/** The acknowledgement of an event that was served. */
const served = <P extends TProperties>(properties: P) =>
  Type.Object({ ok: Type.Literal(true), ...properties })

/** Each event that the server sends, with its payload. */
export const serverEvents = {
  message: Message,
  'message-start': MessageStart,
  'message-chunk': MessageChunk,
  'chat-created': ChatEvent,
  'chat-updated': ChatEvent,
  'chat-deleted': ChatDeleted,
  /** Sent to one socket, whose token is about to expire. */
  'token-expiring': TokenExpiring,
  /** Sent to one socket, before the server disconnects it for good. */
  'session-ended': SessionEnded,
  /** Sent to one socket, whose event was refused and had no acknowledgement. */
  'event-error': EventError,
}
export type ServerEvents = { [E in keyof typeof serverEvents]: Static<(typeof serverEvents)[E]> }

/** Each event that a client sends, with its payload and the acknowledgement when it is served. */
export const clientEvents = {
  'join-chat': {
    payload: JoinChat,
    answer: Model('ChatJoined', served({ active: Type.Array(ActiveReply) })),
  },
  'leave-chat': { payload: LeaveChat, answer: Model('ChatLeft', served({})) },
  'chat-message': {
    payload: ChatMessage,
    answer: Model('MessageSent', served({ message: Message, reply: Message })),
  },
  'stop-message': {
    payload: StopMessage,
    answer: Model('MessageStopped', served({ message: Message })),
  },
  authenticate: {
    payload: Authenticate,
    answer: Model('Authenticated', served({ expiresAt: Timestamp })),
  },
}
