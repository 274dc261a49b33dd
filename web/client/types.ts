import type { components } from './openapi.js'

type Schemas = components['schemas']

export type User = Schemas['User']
export type SignedIn = Schemas['SignedIn']
export type RegisterInput = Schemas['RegisterInput']
export type LoginInput = Schemas['LoginInput']
export type TokenPair = Schemas['TokenPair']
export type SessionEnd = Schemas['SessionEnd']
export type LanguageModel = Schemas['LanguageModel']
export type Chat = Schemas['Chat']
export type ChatSummary = Schemas['ChatSummary']
export type ChatList = Schemas['ChatList']
export type ChatWithMessages = Schemas['ChatWithMessages']
export type ChatInput = Schemas['ChatInput']
export type ChatPatch = Schemas['ChatPatch']
export type GenerationOptions = Schemas['GenerationOptions']
export type Message = Schemas['Message']
export type MessageInput = Schemas['MessageInput']
export type MessageList = Schemas['MessageList']
export type MessageStatus = Schemas['MessageStatus']
export type MessageStart = Schemas['MessageStart']
export type MessageChunk = Schemas['MessageChunk']
export type Turn = Schemas['Turn']
export type ActiveReply = Schemas['ActiveReply']
export type Health = Schemas['Health']
export type ApiError = Schemas['ApiError']
export type FieldFault = Schemas['FieldFault']
export type EventFault = Schemas['EventFault']

type ServerPayloads = Schemas['ServerPayloads']
export type ClientPayloads = Schemas['ClientPayloads']
export type ClientAnswers = Schemas['ClientAnswers']

/** What a server sends, for `Socket<ServerEvents, ClientEvents>` of socket.io-client. */
export type ServerEvents = { [E in keyof ServerPayloads]: (payload: ServerPayloads[E]) => void }

/** What a client sends, for `Socket<ServerEvents, ClientEvents>` of socket.io-client. */
export type ClientEvents = {
  [E in keyof ClientPayloads]: (
    payload: ClientPayloads[E],
    acknowledge: (answer: ClientAnswers[E] | Schemas['Refusal']) => void,
  ) => void
}
