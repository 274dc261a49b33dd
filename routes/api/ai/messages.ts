import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import { MessageList } from '../../../schemas/chats.js'
import { Closed, Cursor, errors, Id, Limit } from '../../../schemas/common.js'
import { Message, MessageInput, Turn } from '../../../schemas/messages.js'

const MessageParams = Closed({ chatId: Id, messageId: Id })

const SendHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description:
        'The client’s own name for this message: a retry with the same key sends nothing twice.',
    }),
  ),
  prefer: Type.Optional(
    Type.String({
      maxLength: 255,
      description: '`respond-async`: answers 202 as soon as the message is stored.',
    }),
  ),
})

const ResumeHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({
      pattern: '^[0-9a-f]{24}:[1-9][0-9]{0,8}:[0-9]{1,9}$',
      description: 'The `id` of the last event received.',
    }),
  ),
})

const ResumeQuery = Closed({
  epoch: Type.Optional(Type.Integer({ minimum: 1, description: 'The epoch of the last frame.' })),
  offset: Type.Optional(
    Type.Integer({ minimum: 0, description: 'The length of the text received, in UTF-16 units.' }),
  ),
})

const routes: FastifyPluginAsyncTypebox = async (fastify) => {
  const { chats, generations, replyResponses } = fastify

  fastify.post(
    '/chats/:chatId/messages',
    {
      preHandler: fastify.limitStreams,
      schema: {
        operationId: 'sendMessage',
        tags: ['messages'],
        summary: 'Send a message',
        description:
          'Stores the message and its reply’s record, then generates. By default the answer comes ' +
          'when the reply is done (201); with `Prefer: respond-async` at once (202); with `Accept: ' +
          'text/event-stream` and no JSON accepted, as server-sent events `message`, ' +
          '`message-start` and `message-chunk`, ended after the reply’s `message`. A client that ' +
          'goes away stops nothing. When the session ends, whoever waits is answered 401, and a ' +
          'stream ends with an event `error`; the reply goes on.',
        params: Closed({ chatId: Id }),
        headers: SendHeaders,
        body: MessageInput,
        response: {
          201: Turn,
          202: Turn,
          ...errors(400, 401, 404, 409, 413, 415, 429, 500, 502, 503, 504),
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
        tags: ['messages'],
        summary: 'List a chat’s messages',
        description: 'The newest in order; `nextCursor` leads to older ones.',
        params: Closed({ chatId: Id }),
        querystring: Closed({ limit: Limit(50), before: Type.Optional(Cursor) }),
        response: { 200: MessageList, ...errors(400, 401, 404, 429, 500, 503) },
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
        tags: ['messages'],
        summary: 'Read a message',
        description: 'A running reply has its text so far.',
        params: MessageParams,
        response: { 200: Message, ...errors(400, 401, 404, 429, 500, 503) },
      },
    },
    ({ session, params }) => chats.readMessage(session.userId, params.chatId, params.messageId),
  )

  fastify.post(
    '/chats/:chatId/messages/:messageId/stop',
    {
      schema: {
        operationId: 'stopMessage',
        tags: ['messages'],
        summary: 'Stop a reply',
        description:
          'Answers with the stopped reply; one that had already ended is returned as it is.',
        params: MessageParams,
        response: { 200: Message, ...errors(400, 401, 404, 429, 500, 503) },
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
        tags: ['messages'],
        summary: 'Stream a reply',
        description:
          'Server-sent events from a position on: `message-start` (MessageStart), `message-chunk` ' +
          '(MessageChunk), and in the end `message` (Message). One that has ended gives its rest. When the session ' +
          'ends, an event `error` with `{code, message, retryable}` is the last one.',
        produces: ['text/event-stream'],
        params: MessageParams,
        headers: ResumeHeaders,
        querystring: ResumeQuery,
        response: { 200: {}, ...errors(400, 401, 404, 429, 500, 503) },
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
