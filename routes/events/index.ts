import type { FastifyInstance } from 'fastify'
import {
  Authenticate,
  ChatMessage,
  JoinChat,
  LeaveChat,
  StopMessage,
} from '../../schemas/events.js'
import { AppError } from '../../src/errors.js'

/** The events that a socket may send; plugins/socket.ts validates and acknowledges each. */
export default async function events(fastify: FastifyInstance) {
  const { socketRooms, chats, generations, chatEvents, socketSessions, replyResponses } = fastify

  fastify.onClientEvent({
    name: 'join-chat',
    payload: JoinChat,
    bareField: 'chatId',
    handle: async ({ chatId, ...asked }, socket) => {
      await chats.find(socket.data.userId, chatId)
      await socketRooms.listen(socket, chatId)
      const activeReplies = await generations.reader.activeReplies(
        socket.data.userId,
        chatId,
        asked,
      )
      if (chatEvents.isGone(chatId)) {
        socketRooms.leave(socket, chatId)
        throw new AppError('CHAT_NOT_FOUND')
      }
      // Joins and reads in one turn of the loop, so that no frame is missed or repeated.
      return () => {
        socketRooms.join(socket, chatId)
        return { active: activeReplies() }
      }
    },
  })

  fastify.onClientEvent({
    name: 'leave-chat',
    payload: LeaveChat,
    bareField: 'chatId',
    handle: async ({ chatId }, socket) => {
      await chats.find(socket.data.userId, chatId)
      socketRooms.leave(socket, chatId)
      return {}
    },
  })

  fastify.onClientEvent({
    name: 'chat-message',
    payload: ChatMessage,
    handle: async ({ chatId, content, model, options, clientMessageId: key }, socket) => {
      const { userId } = socket.data
      const chat = await chats.find(userId, chatId)
      await socketRooms.listen(socket, chatId)
      socketRooms.join(socket, chatId)
      return replyResponses.present(
        await chats.send({ userId, chatId, content, model, options, key, chat }),
      )
    },
  })

  fastify.onClientEvent({
    name: 'stop-message',
    payload: StopMessage,
    handle: async ({ chatId, messageId }, socket) => ({
      message: await replyResponses.stop(socket.data.userId, chatId, messageId),
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
