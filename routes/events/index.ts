import type { FastifyInstance } from 'fastify'
import {
  Authenticate,
  ChatMessage,
  JoinChat,
  LeaveChat,
  StopMessage,
} from '../../schemas/events.js'
import { AppError } from '../../src/errors.js'

/** What a socket may send: each is validated, run, and acknowledged by plugins/socket.ts. */
export default async function events(fastify: FastifyInstance) {
  const { audience, chats, generations, hub, socketSessions, turns } = fastify

  fastify.onClientEvent({
    name: 'join-chat',
    payload: JoinChat,
    bareField: 'chatId',
    handle: async ({ chatId, ...asked }, socket) => {
      await chats.find(socket.data.userId, chatId)
      await audience.listen(socket, chatId)
      const look = await generations.rejoining.look(socket.data.userId, chatId, asked)
      if (hub.isGone(chatId)) {
        audience.leave(socket, chatId)
        throw new AppError('CHAT_NOT_FOUND')
      }
      // In one turn: what is answered and what is heard from now on fit together.
      return () => {
        audience.join(socket, chatId)
        return { active: look() }
      }
    },
  })

  fastify.onClientEvent({
    name: 'leave-chat',
    payload: LeaveChat,
    bareField: 'chatId',
    handle: async ({ chatId }, socket) => {
      await chats.find(socket.data.userId, chatId)
      audience.leave(socket, chatId)
      return {}
    },
  })

  fastify.onClientEvent({
    name: 'chat-message',
    payload: ChatMessage,
    handle: async ({ chatId, content, model, options, clientMessageId: key }, socket) => {
      const { userId } = socket.data
      const chat = await chats.find(userId, chatId)
      await audience.listen(socket, chatId)
      audience.join(socket, chatId)
      return turns.present(await chats.send({ userId, chatId, content, model, options, key, chat }))
    },
  })

  fastify.onClientEvent({
    name: 'stop-message',
    payload: StopMessage,
    handle: async ({ chatId, messageId }, socket) => ({
      message: await turns.stop(socket.data.userId, chatId, messageId),
    }),
  })

  fastify.onClientEvent({
    name: 'authenticate',
    payload: Authenticate,
    handle: async ({ token }, socket) => ({
      expiresAt: (await socketSessions.renew(socket, token)).toISOString(),
    }),
  })
}
