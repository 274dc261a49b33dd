import type { ChatStore } from '../store.js'
import type { Collections } from './collections.js'
import type { Deletions } from './deletions.js'
import { chatOf, documentOf, objectId, updateOf } from './documents.js'

/** Chats. `listChats` reads neither `options` nor `system`: they are wide, and no list shows them. */
export function createChats({ chats }: Collections, deletions: Deletions): ChatStore {
  return {
    async createChat(chat) {
      await chats.insertOne(documentOf(chat))
    },

    async findChat(userId, id) {
      const chat = await chats.findOne(documentOf({ id, userId }))
      return chat ? chatOf(chat) : undefined
    },

    async listChats(userId, limit, after) {
      const rest = after && {
        updatedAt: { $lte: after.updatedAt },
        $or: [{ updatedAt: { $lt: after.updatedAt } }, { _id: { $lt: objectId(after.id) } }],
      }
      const page = await chats
        .find({ ...documentOf({ userId }), ...rest }, { projection: { options: 0, system: 0 } })
        .sort({ updatedAt: -1, _id: -1 })
        .limit(limit)
        .toArray()
      return page.map(chatOf)
    },

    async countChats(userId) {
      return chats.countDocuments(documentOf({ userId }))
    },

    async updateChat(userId, id, patch, now) {
      const update = { $max: { updatedAt: now }, ...updateOf(patch, ['title', 'model']) }
      const options = { returnDocument: 'after' } as const
      const chat = await chats.findOneAndUpdate(documentOf({ id, userId }), update, options)
      return chat ? chatOf(chat) : undefined
    },

    deleteChat: (userId, chatId) => deletions.deleteChat(userId, chatId),
  }
}
