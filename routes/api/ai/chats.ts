import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import { Chat, ChatInput, ChatList, ChatPatch, ChatWithMessages } from '../../../schemas/chats.js'
import { Closed, Cursor, Id, Limit } from '../../../schemas/common.js'
import { examples } from '../../../schemas/examples.js'

const ChatParams = Closed({ chatId: { ...Id, examples: [examples.chat.id] } })

/** Errors of a chat's model and options. */
const ofModel = ['MODEL_NOT_FOUND', 'MODEL_CANNOT', 'MODELS_UNKNOWN'] as const

const routes: FastifyPluginAsyncTypebox = async (fastify) => {
  const { chats } = fastify

  fastify.post(
    '/chats',
    {
      // The body is optional. SDKs in Go and Java send null for none; documenting that breaks Python's.
      preValidation: async (request) => {
        request.body ??= {}
      },
      schema: {
        operationId: 'createChat',
        tags: ['chats'],
        summary: 'Create a chat',
        description:
          'Without a title it takes the first words of its first message. The body may be left out.',
        body: ChatInput,
        bodyIsOptional: true,
        errors: ['RATE_LIMITED', ...ofModel, 'STORAGE_FULL'],
        response: { 201: Chat },
      },
    },
    async (request, reply) => {
      const chat = await chats.create(request.session.userId, request.body)
      return reply.code(201).send(chat)
    },
  )

  fastify.get(
    '/chats',
    {
      schema: {
        operationId: 'listChats',
        tags: ['chats'],
        summary: 'List the chats',
        description: 'The user’s own, newest activity first.',
        querystring: Closed({ limit: Limit(20), cursor: Type.Optional(Cursor) }),
        errors: ['RATE_LIMITED', 'BAD_CURSOR'],
        response: { 200: ChatList },
      },
    },
    async ({ session, query }, reply) => sendPage(reply, await chats.list(session.userId, query)),
  )

  fastify.get(
    '/chats/:chatId',
    {
      schema: {
        operationId: 'getChat',
        tags: ['chats'],
        summary: 'Read a chat',
        description: 'With its newest messages in order; `nextCursor` leads to older ones.',
        params: ChatParams,
        querystring: Closed({ limit: Limit(50), before: Type.Optional(Cursor) }),
        errors: ['RATE_LIMITED', 'CHAT_NOT_FOUND', 'BAD_CURSOR'],
        response: { 200: ChatWithMessages },
      },
    },
    async ({ session, params, query: { limit, before } }, reply) =>
      sendPage(reply, await chats.read(session.userId, params.chatId, { limit, cursor: before })),
  )

  fastify.patch(
    '/chats/:chatId',
    {
      schema: {
        operationId: 'updateChat',
        tags: ['chats'],
        summary: 'Change a chat',
        description: 'Replaces the given fields; running replies are not affected.',
        params: ChatParams,
        body: ChatPatch,
        errors: ['RATE_LIMITED', 'CHAT_NOT_FOUND', ...ofModel, 'STORAGE_FULL'],
        response: { 200: Chat },
      },
    },
    ({ session, params, body }) => chats.update(session.userId, params.chatId, body),
  )

  fastify.delete(
    '/chats/:chatId',
    {
      schema: {
        operationId: 'deleteChat',
        tags: ['chats'],
        summary: 'Delete a chat',
        description: 'Stops its running replies, then deletes it with its messages.',
        params: ChatParams,
        errors: ['RATE_LIMITED', 'CHAT_NOT_FOUND', 'STORAGE_FULL'],
        response: { 204: Type.Null({ description: 'Deleted.' }) },
      },
    },
    async ({ session, params }, reply) => {
      await chats.delete(session.userId, params.chatId)
      return reply.code(204).send(null)
    },
  )
}

export default routes

/** Answers with a page, which may be JSON already. */
function sendPage(reply: FastifyReply, page: object): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(page)
}
