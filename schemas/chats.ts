import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { Closed, Id, Model, NextCursor, Timestamp } from './common.js'
import { examples } from './examples.js'
import { GenerationOptions, Message, ModelName } from './messages.js'

const Title = Type.String({ minLength: 1, maxLength: 200 })
const System = Type.String({ maxLength: 32_000, description: 'The system prompt.' })

const chatInput = {
  title: Type.Optional(Title),
  model: Type.Optional(ModelName),
  system: Type.Optional(System),
  options: Type.Optional(GenerationOptions),
}

export const ChatInput = Model(
  'ChatInput',
  Closed(chatInput, {
    description: 'A new chat; every field may be left out.',
    examples: [examples.chatInput],
  }),
)
export type ChatInput = Static<typeof ChatInput>

/** A field that null resets. */
const orNull = <S extends TSchema>(schema: S) =>
  Type.Unsafe<Static<S> | null>({ ...schema, type: ['string', 'null'] })

export const ChatPatch = Model(
  'ChatPatch',
  Closed(
    {
      title: Type.Optional(orNull(Title)),
      model: Type.Optional(orNull(ModelName)),
      system: Type.Optional(orNull(System)),
      options: Type.Optional(Type.Union([GenerationOptions, Type.Null()])),
    },
    {
      minProperties: 1,
      description: 'The fields to replace; null resets one.',
      examples: [{ title: 'A better day', system: null }],
    },
  ),
)
export type ChatPatch = Static<typeof ChatPatch>

const nullableText = (description: string) =>
  Type.Unsafe<string | null>({ type: ['string', 'null'], description })

const summary = {
  id: Id,
  title: nullableText('Null until the first message gives one.'),
  model: nullableText('Null: the server’s default.'),
  messageCount: Type.Integer({ description: 'Users’ messages and replies.' }),
  createdAt: Timestamp,
  updatedAt: Timestamp,
}

export const ChatSummary = Model(
  'ChatSummary',
  Type.Object(summary, { description: 'A chat as in a list.', examples: [examples.summary] }),
)
export type ChatSummary = Static<typeof ChatSummary>

const chat = {
  ...summary,
  user: Type.String({ pattern: '^[0-9a-f]{24}$', description: 'The owner’s id.' }),
  system: Type.Optional(Type.String({ description: 'The system prompt.' })),
  options: Type.Optional(GenerationOptions),
}

export const Chat = Model(
  'Chat',
  Type.Object(chat, { description: 'A chat without its messages.', examples: [examples.chat] }),
)
export type Chat = Static<typeof Chat>

export const ChatList = Model(
  'ChatList',
  Type.Object(
    { chats: Type.Array(ChatSummary), nextCursor: NextCursor },
    {
      description: 'A page of chats, newest activity first.',
      examples: [{ chats: [examples.summary], nextCursor: null }],
    },
  ),
)
export type ChatList = Static<typeof ChatList>

export const ChatWithMessages = Model(
  'ChatWithMessages',
  Type.Object(
    { ...chat, messages: Type.Array(Message), nextCursor: NextCursor },
    {
      description: 'A chat with a page of its messages, in order.',
      examples: [
        { ...examples.chat, messages: [examples.message, examples.reply], nextCursor: null },
      ],
    },
  ),
)
export type ChatWithMessages = Static<typeof ChatWithMessages>

export const MessageList = Model(
  'MessageList',
  Type.Object(
    { messages: Type.Array(Message), nextCursor: NextCursor },
    {
      description: 'A page of messages, in order.',
      examples: [{ messages: [examples.message, examples.reply], nextCursor: null }],
    },
  ),
)
export type MessageList = Static<typeof MessageList>
