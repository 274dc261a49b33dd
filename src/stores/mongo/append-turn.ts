import { randomUUID } from 'node:crypto'
import { AppError } from '../../errors.js'
import type { ChatRow, MessageRow, NewTurn, StoredTurn } from '../store.js'
import type { Collections } from './collections.js'
import {
  chatOf,
  documentOf,
  type MessageDocument,
  messageDocument,
  messageOf,
} from './documents.js'
import { isDuplicate, isUnavailable, operationTimeoutMs } from './faults.js'

interface TurnDocuments {
  message: MessageDocument
  reply: MessageDocument
}

/**
 * Store.appendTurn without a transaction. A message takes an odd seq and its reply the next, so that
 * no other turn can take the reply's. The unique index on (chat, seq) refuses a seq that another turn
 * took first; the next one is tried then. The call that inserts the reply created the turn: a message
 * that was stored without its reply gets it from the next call.
 */
export async function appendTurn(collections: Collections, turn: NewTurn): Promise<StoredTurn> {
  const attempt = randomUUID()
  const deadline = Date.now() + operationTimeoutMs
  for (;;) {
    const { missing, isSettled, ...documents } = await readTurn(collections, turn, attempt)
    const inserts = missing.map((document) => ({ insertOne: { document } }))
    try {
      if (inserts.length > 0) await collections.messages.bulkWrite(inserts, { ordered: true })
    } catch (error) {
      // Another turn took the seq, or the answer was lost: the next round reads what is stored.
      const isRepeatable = isDuplicate(error) || isUnavailable(error)
      if (!isRepeatable || Date.now() > deadline) throw tooBusy(error)
      continue
    }
    const message = messageOf(documents.message)
    const reply = messageOf(documents.reply)
    const created = documents.reply.attempt === attempt
    if (!created && isSettled) return { message, reply, created }
    const chat = await settleTurn(collections, documents, turn.title)
    if (!chat) throw new AppError('CHAT_NOT_FOUND')
    return created ? { message, reply, created, chat } : { message, reply, created }
  }
}

function tooBusy(error: unknown): unknown {
  if (!isDuplicate(error)) return error
  const message = 'Too many messages are being stored in this chat at once: try again.'
  return new AppError('STORE_UNAVAILABLE', { message, cause: error })
}

/** The turn's documents; `missing` are those that are not stored, made for the next free seqs. */
async function readTurn(
  { chats, messages }: Collections,
  turn: NewTurn,
  attempt: string,
): Promise<TurnDocuments & { missing: MessageDocument[]; isSettled: boolean }> {
  const { id, chatId, userId, fingerprint } = turn.message
  const [stored, newest, chat] = await Promise.all([
    messages.findOne(documentOf({ id })),
    messages.findOne(documentOf({ chatId }), { sort: { seq: -1 }, projection: { seq: 1 } }),
    chats.findOne(documentOf({ id: chatId, userId }), {
      projection: { title: 1, messageCount: 1 },
    }),
  ])
  const make = (row: Omit<MessageRow, 'seq'>, seq: number): MessageDocument => {
    return { ...messageDocument({ ...row, seq }), attempt }
  }
  if (stored) {
    if (stored.chat.toHexString() !== chatId || stored.fingerprint !== fingerprint) {
      throw new AppError('IDEMPOTENCY_KEY_REUSED')
    }
    const seq = stored.seq + 1
    const reply = await messages.findOne(documentOf({ chatId, seq }))
    if (reply) {
      const settled = chat !== null && isSettled(chat, reply)
      return { message: stored, reply, missing: [], isSettled: settled }
    }
    const made = make(turn.reply, seq)
    return { message: stored, reply: made, missing: [made], isSettled: false }
  }
  if (!chat) throw new AppError('CHAT_NOT_FOUND')
  const last = newest?.seq ?? 0
  const seq = last + (last % 2 === 0 ? 1 : 2)
  const message = make(turn.message, seq)
  if (chat.title === null) message.chatTitle = turn.title
  const reply = make(turn.reply, seq + 1)
  return { message, reply, missing: [message, reply], isSettled: false }
}

/**
 * The last step of storing a turn: updates its chat. Repeating it changes nothing; whoever finds a
 * turn that is not settled settles it.
 * @param title for a chat that has none, unless the message brings its own.
 * @returns the chat; undefined when it was deleted meanwhile, and the turn with it.
 */
export async function settleTurn(
  { chats, messages }: Collections,
  { message, reply }: TurnDocuments,
  title?: string,
): Promise<ChatRow | undefined> {
  const chat = { _id: message.chat, user: message.user }
  const chatTitle = message.chatTitle ?? title
  if (chatTitle) await chats.updateOne({ ...chat, title: null }, { $set: { title: chatTitle } })
  const moved = await chats.findOneAndUpdate(
    chat,
    { $max: { messageCount: reply.seq, updatedAt: message.createdAt } },
    { returnDocument: 'after' },
  )
  if (moved) return chatOf(moved)
  await messages.deleteMany({ _id: { $in: [message._id, reply._id] } })
  return undefined
}

/** Whether a chat was updated by the turn of `reply`, or by a later one. */
export const isSettled = (chat: Pick<ChatRow, 'messageCount'>, reply: Pick<MessageRow, 'seq'>) =>
  chat.messageCount >= reply.seq
