import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import { MessageList } from '../../../schemas/chats.js'
import { Closed, Cursor, Id, Limit } from '../../../schemas/common.js'
import { examples } from '../../../schemas/examples.js'
import { Message, MessageInput, Turn } from '../../../schemas/messages.js'

const chatId = { ...Id, examples: [examples.chat.id] }
const ChatParams = Closed({ chatId })
const MessageParams = Closed({ chatId, messageId: { ...Id, examples: [examples.reply.id] } })

const SendHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description:
        'The client’s own name for this message: a retry with the same key sends nothing twice.',
      examples: [examples.idempotencyKey],
    }),
  ),
  prefer: Type.Optional(
    Type.String({
      maxLength: 255,
      description: '`respond-async`: answers 202 as soon as the message is stored.',
      examples: ['respond-async'],
    }),
  ),
})

const ResumeHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({
      pattern: '^(?:[0-9a-f]{24}:[1-9][0-9]{0,8}:[0-9]{1,9})?$',
      description: 'The `id` of the last event received; empty before the first.',
      examples: [`${examples.reply.id}:1:11`],
    }),
  ),
})

/** The largest integer of 32 bits: generated SDKs may have no larger type. */
const maxInteger = 2_147_483_647

const ResumeQuery = Closed({
  epoch: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: maxInteger,
      description: 'The epoch of the last frame.',
      examples: [1],
    }),
  ),
  offset: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: maxInteger,
      description: 'The length of the text received, in UTF-16 units.',
      examples: [11],
    }),
  ),
})

const Location = Type.String({
  format: 'uri-reference',
  description: 'The reply’s stream.',
  examples: [`/api/ai/chats/${examples.chat.id}/messages/${examples.reply.id}/stream`],
})
const PreferenceApplied = Type.String({
  description: 'The preference that was followed (RFC 7240).',
  examples: ['respond-async'],
})

/** How a reply may fail; its message stays stored, and the error has its `replyId`. */
const ofReply = [
  'MODEL_UNREACHABLE',
  'MODEL_FAILED',
  'MODEL_BAD_RESPONSE',
  'MODEL_CUT',
  'REPLY_INTERRUPTED',
  'MODEL_TIMEOUT',
] as const

const routes: FastifyPluginAsyncTypebox = async (fastify) => {
  const { chats, generations, replyResponses } = fastify

  fastify.post(
    '/chats/:chatId/messages',
    {
      preHandler: fastify.limitStreams,
      schema: {
        operationId: 'sendMessage',
        tags: ['chats'],
        summary: 'Send a message',
        description:
          'Stores the message and its reply’s record, then generates. By default the answer comes ' +
          'when the reply is done (201); with `Prefer: respond-async` at once (202); with `Accept: ' +
          'text/event-stream` and no JSON accepted, as server-sent events `message`, ' +
          '`message-start` and `message-chunk`, ended after the reply’s `message`. A client that ' +
          'goes away stops nothing. When the session ends, whoever waits is answered 401, and a ' +
          'stream ends with an event `error`; the reply goes on.',
        params: ChatParams,
        headers: SendHeaders,
        body: MessageInput,
        errors: [
          'RATE_LIMITED',
          'USER_QUEUE_FULL',
          'QUEUE_FULL',
          'CHAT_NOT_FOUND',
          'MESSAGE_NOT_FOUND',
          'MODEL_NOT_FOUND',
          'MODEL_CANNOT',
          'MESSAGE_TOO_LONG',
          'IDEMPOTENCY_KEY_REUSED',
          ...ofReply,
          'SHUTTING_DOWN',
          'STORAGE_FULL',
        ],
        response: {
          201: {
            ...Turn,
            description: 'The message, and its reply once it is done.',
            headers: { Location },
          },
          202: {
            ...Turn,
            description: 'Stored, as `Prefer: respond-async` asks; the reply goes on.',
            headers: { Location, 'Preference-Applied': PreferenceApplied },
          },
        },
      },
    },
    async (request, reply) => {
      const { session, params, body, headers } = request
      const gone = reply.goneSignal()
      const turn = await chats.send({
        userId: session.userId,
        chatId: params.chatId,
        ...body,
        key: headers['idempotency-key'],
      })
      reply.header('Location', `/api/ai/chats/${params.chatId}/messages/${turn.reply.id}/stream`)
      if (request.wantsEvents()) {
        return reply.sendEvents(replyResponses.follow(turn, gone), gone)
      }
      if (prefersAsync(request)) {
        reply.header('Preference-Applied', 'respond-async')
        return reply.code(202).send(replyResponses.present(turn))
      }
      return reply.code(201).send(await replyResponses.whole(turn, gone))
    },
  )

  fastify.get(
    '/chats/:chatId/messages',
    {
      schema: {
        operationId: 'listMessages',
        tags: ['chats'],
        summary: 'List a chat’s messages',
        description: 'The newest in order; `nextCursor` leads to older ones.',
        params: ChatParams,
        querystring: Closed({ limit: Limit(50), before: Type.Optional(Cursor) }),
        errors: ['RATE_LIMITED', 'CHAT_NOT_FOUND', 'BAD_CURSOR'],
        response: { 200: MessageList },
      },
    },
    ({ session, params, query: { limit, before } }) =>
      chats.listMessages(session.userId, params.chatId, { limit, cursor: before }),
  )

  fastify.get(
    '/chats/:chatId/messages/:messageId',
    {
      schema: {
        operationId: 'getMessage',
        tags: ['chats'],
        summary: 'Read a message',
        description: 'A running reply has its text so far.',
        params: MessageParams,
        errors: ['RATE_LIMITED', 'MESSAGE_NOT_FOUND'],
        response: { 200: Message },
      },
    },
    ({ session, params }) => chats.readMessage(session.userId, params.chatId, params.messageId),
  )

  fastify.post(
    '/chats/:chatId/messages/:messageId/stop',
    {
      schema: {
        operationId: 'stopMessage',
        tags: ['chats'],
        summary: 'Stop a reply',
        description:
          'Answers with the stopped reply; one that had already ended is returned as it is.',
        params: MessageParams,
        errors: ['RATE_LIMITED', 'MESSAGE_NOT_FOUND', 'STORAGE_FULL'],
        response: { 200: Message },
      },
    },
    ({ session, params }) => replyResponses.stop(session.userId, params.chatId, params.messageId),
  )

  fastify.get(
    '/chats/:chatId/messages/:messageId/stream',
    {
      preHandler: fastify.limitStreams,
      schema: {
        operationId: 'streamMessage',
        tags: ['chats'],
        summary: 'Stream a reply',
        description:
          'Server-sent events from a position on: `message-start`, `message-chunk`, and in the end ' +
          '`message`. One that has ended gives its rest. When the session ends, an event `error` is the ' +
          'last one. [StreamEvent](#/components/schemas/StreamEvent) has the model of each.',
        params: MessageParams,
        headers: ResumeHeaders,
        querystring: ResumeQuery,
        errors: ['RATE_LIMITED', 'MESSAGE_NOT_FOUND'],
        response: {
          200: {
            description: 'The events; each is a StreamEvent.',
            // Any other schema makes generators read the stream as one value.
            content: { 'text/event-stream': { schema: {} } },
          },
        },
      },
    },
    async ({ session, params, headers, query }, reply) => {
      const position = positionOf(params.messageId, headers['last-event-id']) ?? query
      const { chatId, messageId } = params
      const { userId } = session
      const { reader } = generations
      const gone = reply.goneSignal()
      const events = await reader.follow(userId, chatId, messageId, position, gone)
      return reply.sendEvents(events, gone)
    },
  )
}

export default routes

/** RFC 7240: preferences are separated by commas and may have parameters. */
function prefersAsync({ headers }: FastifyRequest): boolean {
  return String(headers.prefer ?? '')
    .split(',')
    .some((preference) => preference.split(';')[0]?.trim().toLowerCase() === 'respond-async')
}

/** The position after the last event; undefined when that was another message's. */
function positionOf(messageId: string, lastEventId: string | undefined) {
  const [id, epoch, offset] = lastEventId?.split(':') ?? []
  return id === messageId ? { epoch: Number(epoch), offset: Number(offset) } : undefined
}
