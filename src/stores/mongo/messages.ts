import type { Filter, ObjectId, UpdateFilter } from 'mongodb'
import type { Checkpoint, MessageStore, MessageText, ReplyCondition } from '../store.js'
import { withPieces } from '../text-pieces.js'
import { appendTurn, isSettled, settleTurn } from './append-turn.js'
import type { Collections } from './collections.js'
import { documentOf, type MessageDocument, messageOf, objectId, updateOf } from './documents.js'

/** Messages: users' and replies. */
export function createMessages(collections: Collections): MessageStore {
  const { chats, messages } = collections

  return {
    appendTurn: (turn) => appendTurn(collections, turn),

    async findMessage(userId, chatId, id) {
      const [message, chat] = await Promise.all([
        messages.findOne(documentOf({ id, chatId, userId })),
        // The messages of a chat that is being deleted are still there.
        chats.findOne(documentOf({ id: chatId, userId }), { projection: { _id: 1 } }),
      ])
      return message && chat ? messageOf(message) : undefined
    },

    async findTurn(userId, id) {
      const message = await messages.findOne({ ...documentOf({ id, userId }), role: 'user' })
      if (!message) return undefined
      const { chat: _id, user, seq } = message
      const [reply, chat] = await Promise.all([
        messages.findOne({ chat: _id, seq: seq + 1 }),
        chats.findOne({ _id, user }, { projection: { messageCount: 1 } }),
      ])
      if (!reply || !chat) return undefined
      const turn = { message: messageOf(message), reply: messageOf(reply) }
      if (isSettled(chat, reply)) return turn
      const moved = await settleTurn(collections, { message, reply })
      return moved && { ...turn, chat: moved }
    },

    async listMessages(chatId, limit, before) {
      const older = before === undefined ? {} : { seq: { $lt: before } }
      const page = await messages
        .find({ ...documentOf({ chatId }), ...older })
        .sort({ seq: -1 })
        .limit(limit)
        .toArray()
      return page.map(messageOf).reverse()
    },

    async listTexts(chatId, limit, before) {
      const page = await messages
        .find({ ...documentOf({ chatId }), seq: { $lt: before } })
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
      const active = await messages
        .find({ activeIn: objectId(chatId) })
        .sort({ seq: 1 })
        .toArray()
      return active.map(messageOf)
    },

    async listActiveRepliesOf(userId) {
      const active = { ...documentOf({ userId }), activeIn: { $exists: true } }
      return (await messages.find(active).toArray()).map(messageOf)
    },

    async updateReply(id, condition, change) {
      const filter = { ...documentOf({ id }), ...filterOf(condition) }
      const update = updateOf({
        ...change,
        ...(change.leaseUntil === null && { activeIn: null }),
        // A new text is whole.
        ...(change.content !== undefined && { pieces: null }),
      })
      // The driver refuses an empty update.
      const reply = await (Object.keys(update).length > 0
        ? messages.findOneAndUpdate(filter, update, { returnDocument: 'after' })
        : messages.findOne(filter))
      return reply ? messageOf(reply) : undefined
    },

    async checkpoint(checkpoints) {
      if (checkpoints.length === 0) return []
      const updates = checkpoints.map((checkpoint) => ({
        updateOne: { filter: heldBy(checkpoint), update: appending(checkpoint) },
      }))
      const { matchedCount } = await messages.bulkWrite(updates, { ordered: false })
      if (matchedCount === checkpoints.length) return []
      const ids = checkpoints.map(({ id }) => id)
      return unmatched(ids, { $or: checkpoints.map(heldBy) })
    },

    async renewLeases(owner, ids, until) {
      const held = { _id: { $in: ids.map(objectId) }, owner, leaseUntil: { $exists: true } }
      const { matchedCount } = await messages.updateMany(held, { $max: { leaseUntil: until } })
      return matchedCount === ids.length ? [] : unmatched(ids, held)
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

  /** Settles turns whose storing was interrupted before that. */
  async function settleAll(replies: readonly MessageDocument[]): Promise<void> {
    if (replies.length === 0) return
    const found = await chats
      .find({ _id: { $in: replies.map(({ chat }) => chat) } })
      .project<{ _id: ObjectId; messageCount: number }>({ messageCount: 1 })
      .toArray()
    for (const reply of replies) {
      const chat = found.find(({ _id }) => _id.equals(reply.chat))
      if (!chat || isSettled(chat, reply)) continue
      const message = await messages.findOne({ chat: reply.chat, seq: reply.seq - 1 })
      if (message) await settleTurn(collections, { message, reply })
    }
  }

  /** Those of `ids` that the filter does not match. */
  async function unmatched(ids: readonly string[], filter: Filter<MessageDocument>) {
    const found = await messages.find(filter).project<{ _id: ObjectId }>({ _id: 1 }).toArray()
    const matched = new Set(found.map(({ _id }) => _id.toHexString()))
    return ids.filter((id) => !matched.has(id))
  }
}

function heldBy({ id, owner, epoch }: Checkpoint): Filter<MessageDocument> {
  return { ...documentOf({ id, owner, epoch }), status: 'streaming' }
}

/** A checkpoint without text only finds out whether the reply is held. */
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
