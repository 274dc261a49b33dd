import type { ChatStore } from '../parts.js'
import type { ChatRow } from '../store.js'
import type { ChatDocument, Collections } from './collections.js'

export function chatOf(userId: string, { _id, ...chat }: ChatDocument): ChatRow {
  return { id: _id, ...chat, userId }
}

/** Chats. `listChats` leaves `options` and `system` out: they are wide, and no list shows them. */
export function createChats(collections: Collections): ChatStore {
  const { chats } = collections
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

    async deleteChat(userId, chatId) {
      const { matchedCount } = await chats.updateOne(
        { _id: chatId, userId },
        { $set: { deletedFrom: userId }, $unset: { userId: '' } },
      )
      if (matchedCount === 0) {
        // One that an earlier call began to delete is finished by this one.
        const begun = { _id: chatId, deletedFrom: userId }
        if (!(await chats.findOne(begun, { projection: { _id: 1 } }))) return false
      }
      return finishDeletion(collections, chatId)
    },
  }
}

/** @returns whether this call was the one that ended it. */
async function finishDeletion({ chats, messages }: Collections, chatId: string) {
  await messages.deleteMany({ chatId })
  const { deletedCount } = await chats.deleteOne({ _id: chatId })
  return deletedCount > 0
}

/** Deletes every chat of a user. */
export async function deleteChatsOf(collections: Collections, userId: string): Promise<void> {
  const { chats } = collections
  await chats.updateMany({ userId }, { $set: { deletedFrom: userId }, $unset: { userId: '' } })
  const begun = chats.find({ deletedFrom: userId })
  for await (const { _id } of begun.project<{ _id: string }>({ _id: 1 })) {
    await finishDeletion(collections, _id)
  }
}

/** Finishes the deletions that a process which died had begun. */
export async function finishDeletions(collections: Collections): Promise<void> {
  const begun = collections.chats.find({ deletedFrom: { $exists: true } })
  for await (const { _id } of begun.project<{ _id: string }>({ _id: 1 })) {
    await finishDeletion(collections, _id)
  }
}
