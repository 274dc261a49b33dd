import type { AnyBulkWriteOperation } from 'mongodb'
import { AppError } from '../../errors.js'
import { newId } from '../../ids.js'
import type { ChatRow, NewTurn, StoredTurn } from '../store.js'
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
      const chat = await settle(collections, turn, { message, reply })
      const rows = { message: messageOf(message), reply: messageOf(reply) }
      return reply.attempt === attempt
        ? { ...rows, created: true, chat }
        : { ...rows, created: false }
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
    const chat = await settle(collections, turn, { message, reply })
    return { message: messageOf(message), reply: messageOf(reply), created: true, chat }
  }
}

const tooLong = (error: unknown) =>
  isDuplicate(error) ? new AppError('STORE_UNAVAILABLE', { cause: error }) : error

type Found =
  | { message: MessageDocument; reply: MessageDocument }
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
    chats.findOne({ _id: chatId, userId }, { projection: { _id: 1 } }),
  ])
  if (message) {
    if (message.chatId !== chatId || message.fingerprint !== fingerprint) {
      throw new AppError('IDEMPOTENCY_KEY_REUSED')
    }
    const reply = await messages.findOne({ chatId, seq: message.seq + 1 })
    return reply ? { message, reply } : { message, fresh: false }
  }
  if (!chat) throw new AppError('CHAT_NOT_FOUND')
  const last = newest?.seq ?? 0
  const seq = last + (last % 2 === 0 ? 1 : 2)
  return { message: { ...documentOf({ ...turn.message, seq }), attempt }, fresh: true }
}

/**
 * Moves the chat, and answers with it; repeating it changes nothing. A chat that was deleted
 * meanwhile is not found any more, and the turn goes with it.
 * @throws AppError CHAT_NOT_FOUND
 */
async function settle(
  { chats, messages }: Collections,
  { title }: NewTurn,
  { message, reply }: { message: MessageDocument; reply: MessageDocument },
): Promise<ChatRow> {
  const { chatId, userId } = message
  const chat = { _id: chatId, userId }
  await chats.updateOne({ ...chat, title: null }, { $set: { title } })
  const moved = await chats.findOneAndUpdate(
    chat,
    { $max: { messageCount: reply.seq, updatedAt: message.createdAt } },
    { returnDocument: 'after' },
  )
  if (moved) return chatOf(userId, moved)
  await messages.deleteMany({ _id: { $in: [message._id, reply._id] } })
  throw new AppError('CHAT_NOT_FOUND')
}
