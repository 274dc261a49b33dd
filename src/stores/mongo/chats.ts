import type { ChatStore } from '../parts.js'
import type { ChatRow } from '../store.js'
import type { ChatDocument, Collections } from './collections.js'
import type { Deletions } from './deletions.js'

export function chatOf(userId: string, { _id, ...chat }: ChatDocument): ChatRow {
  return { id: _id, ...chat, userId }
}

/** Chats. `listChats` leaves `options` and `system` out: they are wide, and no list shows them. */
export function createChats({ chats }: Collections, deletions: Deletions): ChatStore {
  return {
    async createChat({ id, ...chat }) {
      await chats.insertOne({ _id: id, ...chat })
    },

    async findChat(userId, chatId) {
      const chat = await chats.findOne({ _id: chatId, userId })
      return chat ? chatOf(userId, chat) : undefined
    },

    async listChats(userId, limit, after) {
      const rest = after && {
        updatedAt: { $lte: after.updatedAt },
        $or: [{ updatedAt: { $lt: after.updatedAt } }, { _id: { $lt: after.id } }],
      }
      const page = await chats
        .find({ userId, ...rest }, { projection: { options: 0, system: 0 } })
        .sort({ updatedAt: -1, _id: -1 })
        .limit(limit)
        .toArray()
      return page.map((chat) => chatOf(userId, chat))
    },

    async countChats(userId) {
      return chats.countDocuments({ userId })
    },

    async updateChat(userId, chatId, patch, now) {
      const given = Object.entries(patch).filter(([, value]) => value !== undefined)
      // A chat without a title or a model says so; the wide fields are left out.
      const isReset = ([name, value]: [string, unknown]) =>
        value === null && (name === 'system' || name === 'options')
      const set = given.filter((entry) => !isReset(entry))
      const unset = given.filter(isReset).map(([name]) => [name, ''])
      const chat = await chats.findOneAndUpdate(
        { _id: chatId, userId },
        {
          $max: { updatedAt: now },
          ...(set.length > 0 && { $set: Object.fromEntries(set) }),
          ...(unset.length > 0 && { $unset: Object.fromEntries(unset) }),
        },
        { returnDocument: 'after' },
      )
      return chat ? chatOf(userId, chat) : undefined
    },

    deleteChat: (userId, chatId) => deletions.deleteChat(userId, chatId),
  }
}
