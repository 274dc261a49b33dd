import type { Filter, UpdateFilter } from 'mongodb'
import type { MessageStore } from '../parts.js'
import type { Checkpoint, MessageText, ReplyChange, ReplyCondition } from '../store.js'
import { withPieces } from '../text-pieces.js'
import { appendTurn, isSettled, settleTurn } from './append-turn.js'
import type { Collections, MessageDocument } from './collections.js'
import { messageOf } from './message-document.js'

/** Messages: users' and replies. */
export function createMessages(collections: Collections): MessageStore {
  const { chats, messages } = collections

  /** Moves the chats of turns whose storing was cut before that. */
  async function settleAll(replies: readonly MessageDocument[]): Promise<void> {
    if (replies.length === 0) return
    const ids = [...new Set(replies.map(({ chatId }) => chatId))]
    const found = await chats
      .find({ _id: { $in: ids } })
      .project<{ _id: string; messageCount: number }>({ messageCount: 1 })
      .toArray()
    const chatOf = new Map(found.map((chat) => [chat._id, chat]))
    for (const reply of replies) {
      const chat = chatOf.get(reply.chatId)
      if (!chat || isSettled(chat, reply)) continue
      const message = await messages.findOne({ chatId: reply.chatId, seq: reply.seq - 1 })
      if (message) await settleTurn(collections, { message, reply })
    }
  }

  return {
    appendTurn: (turn) => appendTurn(collections, turn),

    async findMessage(userId, chatId, messageId) {
      const [message, chat] = await Promise.all([
        messages.findOne({ _id: messageId, chatId, userId }),
        // The messages of a chat that is being deleted are still there.
        chats.findOne({ _id: chatId, userId }, { projection: { _id: 1 } }),
      ])
      return message && chat ? messageOf(message) : undefined
    },

    async findTurn(userId, messageId) {
      const message = await messages.findOne({ _id: messageId, userId, role: 'user' })
      if (!message) return undefined
      const { chatId, seq } = message
      const [reply, chat] = await Promise.all([
        messages.findOne({ chatId, seq: seq + 1 }),
        chats.findOne({ _id: chatId, userId }, { projection: { messageCount: 1 } }),
      ])
      if (!reply || !chat) return undefined
      const turn = { message: messageOf(message), reply: messageOf(reply) }
      if (isSettled(chat, reply)) return turn
      const moved = await settleTurn(collections, { message, reply })
      return moved && { ...turn, chat: moved }
    },

    async listMessages(chatId, limit, before) {
      const place = before === undefined ? {} : { seq: { $lt: before } }
      const page = await messages
        .find({ chatId, ...place })
        .sort({ seq: -1 })
        .limit(limit)
        .toArray()
      return page.map(messageOf).reverse()
    },

    async listTexts(chatId, limit, before) {
      const page = await messages
        .find({ chatId, seq: { $lt: before } })
        .project<Pick<MessageDocument, 'seq' | 'role' | 'content' | 'pieces'>>({
          ...{ _id: 0, seq: 1, role: 1, content: 1, pieces: 1 },
        })
        .sort({ seq: -1 })
        .limit(limit)
        .toArray()
      return page
        .map(({ seq, role, content, pieces = [] }): MessageText => {
          return { seq, role, content: withPieces({ content }, pieces).content }
        })
        .reverse()
    },

    async listActiveReplies(chatId) {
      const active = await messages.find({ activeIn: chatId }).sort({ seq: 1 }).toArray()
      return active.map(messageOf)
    },

    async listActiveRepliesOf(userId) {
      const active = await messages.find({ userId, activeIn: { $exists: true } }).toArray()
      return active.map(messageOf)
    },

    async updateReply(id, condition, change) {
      const filter = { _id: id, ...filterOf(condition) }
      const update = updateOf(change)
      const reply = update
        ? await messages.findOneAndUpdate(filter, update, { returnDocument: 'after' })
        : await messages.findOne(filter)
      return reply ? messageOf(reply) : undefined
    },

    async checkpoint(checkpoints) {
      if (checkpoints.length === 0) return []
      const { matchedCount } = await messages.bulkWrite(
        checkpoints.map((checkpoint) => ({
          updateOne: {
            filter: heldBy(checkpoint),
            update: appending(checkpoint),
          },
        })),
        { ordered: false },
      )
      if (matchedCount === checkpoints.length) return []
      return missing(
        checkpoints.map(({ id }) => id),
        { $or: checkpoints.map(heldBy) },
      )
    },

    async renewLeases(owner, ids, until) {
      const held = { _id: { $in: [...ids] }, owner, leaseUntil: { $exists: true } }
      const { matchedCount } = await messages.updateMany(held, { $max: { leaseUntil: until } })
      if (matchedCount === ids.length) return []
      return missing(ids, held)
    },

    async findLapsedReplies(now, limit) {
      const lapsed = await messages
        .find({ leaseUntil: { $lte: now } })
        .sort({ createdAt: 1, seq: 1 })
        .limit(limit)
        .toArray()
      await settleAll(lapsed)
      return lapsed.map(messageOf)
    },

    async firstLeaseEnd() {
      const first = await messages.findOne(
        { leaseUntil: { $exists: true } },
        { sort: { leaseUntil: 1 }, projection: { _id: 0, leaseUntil: 1 } },
      )
      return first?.leaseUntil
    },
  }

  /** Those of `ids` that the filter does not match. */
  async function missing(
    ids: readonly string[],
    filter: Filter<MessageDocument>,
  ): Promise<string[]> {
    const found = await messages.find(filter).project<{ _id: string }>({ _id: 1 }).toArray()
    const matched = new Set(found.map(({ _id }) => _id))
    return ids.filter((id) => !matched.has(id))
  }
}

function heldBy({ id, owner, epoch }: Checkpoint): Filter<MessageDocument> {
  return { _id: id, owner, epoch, status: 'streaming' }
}

/** One that has no text tells only whether the reply is held. */
function appending(checkpoint: Checkpoint): UpdateFilter<MessageDocument> {
  const { epoch, from, content, thinking, tokens } = checkpoint
  if (!content && !thinking) return { $set: { epoch } }
  return { $push: { pieces: { from, content, thinking, tokens } } }
}

function filterOf({ status, epoch, owner, leaseUntil }: ReplyCondition): Filter<MessageDocument> {
  return {
    status: { $in: [...status] },
    ...(epoch !== undefined && { epoch }),
    ...(owner === null && { owner: { $exists: false } }),
    ...(typeof owner === 'string' && { owner }),
    ...(leaseUntil && { leaseUntil }),
  }
}

/** @returns undefined when there is nothing to change. */
function updateOf(change: ReplyChange): UpdateFilter<MessageDocument> | undefined {
  const given = Object.entries(change).filter(([, value]) => value !== undefined)
  const set = given.filter(([, value]) => value !== null)
  const unset = given.filter(([, value]) => value === null).map(([name]) => [name, ''])
  if (change.leaseUntil === null) unset.push(['activeIn', ''])
  // The text is given whole.
  if (change.content !== undefined) unset.push(['pieces', ''])
  if (given.length === 0) return undefined
  return {
    ...(set.length > 0 && { $set: Object.fromEntries(set) }),
    ...(unset.length > 0 && { $unset: Object.fromEntries(unset) }),
  }
}
