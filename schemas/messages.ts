import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { Closed, ErrorCode, EventFault, Id, Model, StringEnum, Timestamp } from './common.js'
import { examples } from './examples.js'

export const ModelName = Type.String({
  minLength: 1,
  maxLength: 1000,
  pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]+$',
  description: 'A model that Ollama lists; compared as Ollama does, without regard to case.',
})

/** Ollama's options under their own names, each with its bounds, and `think`. */
export const GenerationOptions = Model(
  'GenerationOptions',
  Closed(
    {
      // Settings hold the upper bounds of these two.
      num_ctx: Type.Optional(
        Type.Integer({ minimum: 256, description: 'At most the server’s MAX_NUM_CTX.' }),
      ),
      num_predict: Type.Optional(
        Type.Integer({ minimum: -2, description: 'At most the server’s MAX_NUM_PREDICT.' }),
      ),
      temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 5 })),
      top_k: Type.Optional(Type.Integer({ minimum: 0, maximum: 1000 })),
      top_p: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
      min_p: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
      seed: Type.Optional(Type.Integer({ minimum: -2147483648, maximum: 2147483647 })),
      stop: Type.Optional(
        Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 16 }),
      ),
      repeat_last_n: Type.Optional(Type.Integer({ minimum: -1, maximum: 1048576 })),
      repeat_penalty: Type.Optional(Type.Number({ minimum: 0, maximum: 10 })),
      presence_penalty: Type.Optional(Type.Number({ minimum: -10, maximum: 10 })),
      frequency_penalty: Type.Optional(Type.Number({ minimum: -10, maximum: 10 })),
      think: Type.Optional(
        Type.Boolean({ description: 'Whether a model that can think does so; true by default.' }),
      ),
    },
    {
      description: 'Ollama’s options, under their own names.',
      examples: [{ temperature: 0.7, num_predict: 200 }],
    },
  ),
)
export type GenerationOptions = Static<typeof GenerationOptions>

export const Content = Type.String({
  minLength: 1,
  maxLength: 100_000,
  description: '1 to 100,000 UTF-16 units.',
})

export const MessageInput = Model(
  'MessageInput',
  Closed(
    {
      content: Content,
      model: Type.Optional(ModelName),
      options: Type.Optional(GenerationOptions),
    },
    {
      description: 'A message; without `model` and `options` those of its chat are used.',
      examples: [{ content: examples.content }],
    },
  ),
)
export type MessageInput = Static<typeof MessageInput>

const messageStatuses = [
  'queued',
  'streaming',
  'complete',
  'stopped',
  'interrupted',
  'error',
] as const

export const MessageStatus = Model(
  'MessageStatus',
  StringEnum(messageStatuses, 'Where a message stands. Unknown values may come later.', 'complete'),
)
export type MessageStatus = Static<typeof MessageStatus>

export const MessageRole = Model(
  'MessageRole',
  StringEnum(
    ['user', 'assistant'] as const,
    'Who speaks. Unknown values may come later.',
    'assistant',
  ),
)
export type MessageRole = Static<typeof MessageRole>

export const Usage = Model(
  'Usage',
  Type.Object(
    {
      promptTokens: Type.Optional(Type.Integer({ description: 'As the model counted them.' })),
      replyTokens: Type.Optional(Type.Integer()),
      contextLength: Type.Optional(
        Type.Integer({ description: 'The context window that was loaded, in tokens.' }),
      ),
      messagesSent: Type.Integer({
        description: 'Messages that the model got, including the system prompt.',
      }),
      messagesDropped: Type.Integer({
        description: 'Older messages that did not fit, including those that Ollama cut.',
      }),
      firstTokenMs: Type.Optional(
        Type.Number({ description: 'From the request to the first text or thinking.' }),
      ),
      thinkingMs: Type.Optional(
        Type.Number({ description: 'From the first thinking to the first text, or to the end.' }),
      ),
      totalMs: Type.Optional(Type.Number()),
      loadMs: Type.Optional(Type.Number()),
      promptMs: Type.Optional(Type.Number()),
      replyMs: Type.Optional(Type.Number()),
      tokensPerSecond: Type.Optional(Type.Number()),
      cached: Type.Optional(
        Type.Boolean({
          description: 'True when the reply of an equal deterministic request was reused.',
        }),
      ),
    },
    { description: 'What the reply cost.', examples: [examples.usage] },
  ),
)
export type Usage = Static<typeof Usage>

export const MessageFault = Model(
  'MessageFault',
  Type.Object(
    {
      code: ErrorCode,
      message: Type.String({ description: 'What went wrong and what to do, for a person.' }),
    },
    {
      description: 'Why a reply ended as it did.',
      examples: [{ code: 'MODEL_TIMEOUT', message: 'Ollama did not answer in time: try again.' }],
    },
  ),
)
export type MessageFault = Static<typeof MessageFault>

const messageFields = {
  id: Id,
  chatId: Id,
  seq: Type.Integer({ description: 'The position in its chat, from 1.' }),
  role: MessageRole,
  content: Type.String({ description: 'The text; of a running reply, so far.' }),
  thinking: Type.Optional(
    Type.String({ description: 'What the model thought before it answered.' }),
  ),
  status: MessageStatus,
  finishReason: Type.Optional(
    Type.String({
      description:
        'How a complete reply ended: `stop`, `length`, `tool_calls` or `empty`. Unknown values may come later.',
    }),
  ),
  model: Type.Optional(Type.String({ description: 'The model that replies.' })),
  usage: Type.Optional(Usage),
  error: Type.Optional(MessageFault),
  createdAt: Timestamp,
  completedAt: Type.Optional(Timestamp),
}

export const Message = Model(
  'Message',
  Type.Object(messageFields, {
    description: 'A user’s message, or a reply as it stands.',
    examples: [examples.reply],
  }),
)
export type Message = Static<typeof Message>

export const Turn = Model(
  'Turn',
  Type.Object(
    { message: Message, reply: Message },
    {
      description: 'The user’s message and the record of its reply.',
      examples: [{ message: examples.message, reply: examples.reply }],
    },
  ),
)
export type Turn = Static<typeof Turn>

/** The payload of `message-start`: a reply's record when it is queued or begins. */
export const MessageStart = Model(
  'MessageStart',
  Type.Object(
    {
      ...messageFields,
      epoch: Type.Integer({ description: 'The run of the reply, from 1.' }),
      position: Type.Optional(
        Type.Integer({ description: 'The position in the queue; 1 is next.' }),
      ),
      estimatedStart: Type.Optional(Timestamp),
    },
    {
      description: 'A reply’s record when it is queued or begins.',
      examples: [examples.messageStart],
    },
  ),
)
export type MessageStart = Static<typeof MessageStart>

/** The payload of `message-chunk`: text and its position in the reply. */
export const MessageChunk = Model(
  'MessageChunk',
  Type.Object(
    {
      chatId: Id,
      messageId: Id,
      epoch: Type.Integer({ description: 'The run of the reply, from 1.' }),
      offset: Type.Integer({ description: 'Where `delta` begins, in UTF-16 units.' }),
      delta: Type.String({ description: 'The text from `offset` on.' }),
      thinking: Type.Optional(
        // Java's generator makes a string of `const: true`.
        Type.Unsafe<true>({
          type: 'boolean',
          description: 'True where `delta` is thinking, which has offsets of its own; else absent.',
        }),
      ),
    },
    {
      description: 'A piece of a reply’s text and its position.',
      examples: [examples.messageChunk],
    },
  ),
)
export type MessageChunk = Static<typeof MessageChunk>

const eventId = `${examples.reply.id}:1:11`

/** An event of a stream, as a decoder of server-sent events gives it once `data` is parsed. */
function frame<E extends string, D extends TSchema>(
  event: E,
  data: D,
  example: object,
  description: string,
) {
  return Type.Object(
    {
      event: Type.Literal(event),
      id: Type.Optional(
        Type.String({
          description: '`<messageId>:<epoch>:<end offset>`, for `Last-Event-ID`.',
          examples: [eventId],
        }),
      ),
      data,
    },
    { description, examples: [{ event, id: eventId, data: example }] },
  )
}

const MessageStartFrame = Model(
  'MessageStartFrame',
  frame('message-start', MessageStart, examples.messageStart, 'A reply is queued or begins.'),
)
const MessageChunkFrame = Model(
  'MessageChunkFrame',
  frame('message-chunk', MessageChunk, examples.messageChunk, 'A reply grows.'),
)
const MessageFrame = Model(
  'MessageFrame',
  frame('message', Message, examples.reply, 'A message is stored, or a reply has ended.'),
)
const FaultFrame = Model(
  'FaultFrame',
  Type.Object(
    { event: Type.Literal('error'), data: EventFault },
    {
      description: 'The stream ends before the reply: its session is over.',
      examples: [
        {
          event: 'error',
          data: {
            code: 'LOGGED_OUT',
            message: 'The session was logged out: log in again.',
            retryable: false,
          },
        },
      ],
    },
  ),
)

/** Every event of a stream. No operation refers to it: a schema for server-sent events breaks generators. */
Model(
  'StreamEvent',
  Type.Unsafe<
    | Static<typeof MessageStartFrame>
    | Static<typeof MessageChunkFrame>
    | Static<typeof MessageFrame>
    | Static<typeof FaultFrame>
  >({
    oneOf: [MessageStartFrame, MessageChunkFrame, MessageFrame, FaultFrame],
    description: 'An event of a stream, by its name.',
  }),
)
