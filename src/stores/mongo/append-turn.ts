import type { AnyBulkWriteOperation } from 'mongodb'
import { AppError } from '../../errors.js'
import { newId } from '../../ids.js'
import type { ChatRow, MessageRow, NewTurn, StoredTurn } from '../store.js'
import { chatOf } from './chats.js'
import type { Collections, MessageDocument } from './collections.js'
import { isDuplicate, isUnavailable, operationTimeoutMs } from './faults.js'
import { documentOf, messageOf } from './message-document.js'

/**
 * Store.appendTurn without a transaction. A message has an odd place and its reply the next, so
 * that nobody takes a reply's place from it; the unique index on (chatId, seq) refuses a place that
 * another turn took first, and then the next one is tried. Whoever stored the reply created the
 * turn: a message whose reply is missing is given one by the next call for it.
 */
export async function appendTurn(collections: Collections, turn: NewTurn): Promise<StoredTurn> {
  const { messages } = collections
  const attempt = newId()
  const deadline = Date.now() + operationTimeoutMs
  for (;;) {
    const stored = await findStored(collections, turn, attempt)
    if (stored.reply) {
      const { message, reply } = stored
      const isOwn = reply.attempt === attempt
      if (!isOwn && stored.isSettled) {
        return { message: messageOf(message), reply: messageOf(reply), created: false }
      }
      const chat = await settled(collections, turn, { message, reply })
      const rows = { message: messageOf(message), reply: messageOf(reply) }
      return isOwn ? { ...rows, created: true, chat } : { ...rows, created: false }
    }
    const { message, fresh } = stored
    const reply = { ...documentOf({ ...turn.reply, seq: message.seq + 1 }), attempt }
    const inserts: AnyBulkWriteOperation<MessageDocument>[] = [
      ...(fresh ? [{ insertOne: { document: message } }] : []),
      { insertOne: { document: reply } },
    ]
    try {
      await messages.bulkWrite(inserts, { ordered: true })
    } catch (error) {
      // Another took the place, or the answer was lost: what is stored then says which.
      const again = isDuplicate(error) || isUnavailable(error)
      if (!again || Date.now() > deadline) throw tooLong(error)
      continue
    }
    const chat = await settled(collections, turn, { message, reply })
    return { message: messageOf(message), reply: messageOf(reply), created: true, chat }
  }
}

function tooLong(error: unknown): unknown {
  if (!isDuplicate(error)) return error
  const message = 'Too many messages are being stored in this chat at once: try again.'
  return new AppError('STORE_UNAVAILABLE', { message, cause: error })
}

type Found =
  | { message: MessageDocument; reply: MessageDocument; isSettled: boolean }
  | { message: MessageDocument; reply?: undefined; fresh: boolean }

/** What is stored of the turn; a message that is not is made, for the next free place. */
async function findStored(
  { chats, messages }: Collections,
  turn: NewTurn,
  attempt: string,
): Promise<Found> {
  const { id, chatId, userId, fingerprint } = turn.message
  const [message, newest, chat] = await Promise.all([
    messages.findOne({ _id: id }),
    messages.findOne({ chatId }, { sort: { seq: -1 }, projection: { seq: 1 } }),
    chats.findOne({ _id: chatId, userId }, { projection: { title: 1, messageCount: 1 } }),
  ])
  if (message) {
    if (message.chatId !== chatId || message.fingerprint !== fingerprint) {
      throw new AppError('IDEMPOTENCY_KEY_REUSED')
    }
    const reply = await messages.findOne({ chatId, seq: message.seq + 1 })
    if (!reply) return { message, fresh: false }
    return { message, reply, isSettled: chat !== null && isSettled(chat, reply) }
  }
  if (!chat) throw new AppError('CHAT_NOT_FOUND')
  const last = newest?.seq ?? 0
  const seq = last + (last % 2 === 0 ? 1 : 2)
  const document = documentOf({ ...turn.message, seq })
  const title = chat.title === null ? { title: turn.title } : {}
  return { message: { ...document, ...title, attempt }, fresh: true }
}

/** @throws AppError CHAT_NOT_FOUND */
async function settled(
  collections: Collections,
  turn: NewTurn,
  { message, reply }: TurnDocuments,
): Promise<ChatRow> {
  const chat = await settleTurn(collections, { message: { title: turn.title, ...message }, reply })
  if (!chat) throw new AppError('CHAT_NOT_FOUND')
  return chat
}

interface TurnDocuments {
  message: MessageDocument
  reply: MessageDocument
}

/**
 * The last step of storing a turn: moves its chat, and answers with it. Repeating it changes
 * nothing, and whoever finds a turn whose chat was not moved does (`isSettled`).
 * @returns undefined when the chat was deleted meanwhile; the turn goes with it.
 */
export async function settleTurn(
  { chats, messages }: Collections,
  { message, reply }: TurnDocuments,
): Promise<ChatRow | undefined> {
  const { chatId, userId, title } = message
  const chat = { _id: chatId, userId }
  if (title) await chats.updateOne({ ...chat, title: null }, { $set: { title } })
  const moved = await chats.findOneAndUpdate(
    chat,
    { $max: { messageCount: reply.seq, updatedAt: message.createdAt } },
    { returnDocument: 'after' },
  )
  if (moved) return chatOf(userId, moved)
  await messages.deleteMany({ _id: { $in: [message._id, reply._id] } })
  return undefined
}

/** Whether a chat was moved by the turn of `reply`, or a later one. */
export const isSettled = (chat: Pick<ChatRow, 'messageCount'>, reply: Pick<MessageRow, 'seq'>) =>
  chat.messageCount >= reply.seq
