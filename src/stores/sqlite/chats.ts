import type { ChatRow, ChatStore } from '../store.js'
import type { Connection } from './connection.js'
import type { GroupCommit } from './group-commit.js'
import { type Cells, Table } from './table.js'

export const chats = new Table<ChatRow>({
  id: 'plain',
  userId: 'plain',
  title: 'nullable',
  model: 'nullable',
  messageCount: 'plain',
  createdAt: 'date',
  updatedAt: 'date',
  options: 'json',
  system: 'plain',
})

/** What lists show: `options` and `system` are wide. */
const listed = [
  ...(['id', 'userId', 'title', 'model', 'messageCount'] as const),
  ...(['createdAt', 'updatedAt'] as const),
]

/** What an update changes. */
const changing = ['title', 'model', 'options', 'system', 'updatedAt'] as const

/** Chats. */
export function createChats(connection: Connection, commits: GroupCommit): ChatStore {
  const insert = connection.writer(
    `INSERT INTO chats (${chats.columns()}) VALUES (${chats.marks()})`,
  )
  const find = connection.reader<Cells<ChatRow>>(
    `SELECT ${chats.json()} FROM chats WHERE id = ? AND user_id = ?`,
  )
  // The aggregate keeps the order of the inner statement, which is its index's.
  const page = (where: string) =>
    connection.reader<Cells<ChatRow>[]>(
      `SELECT json_group_array(${chats.json(listed)}) FROM (
         SELECT ${chats.columns(listed)} FROM chats WHERE user_id = ? ${where}
         ORDER BY updated_at DESC, id DESC LIMIT ?)`,
    )
  const firstPage = page('')
  const nextPage = page('AND (updated_at, id) < (?, ?)')
  const count = connection.reader<number>('SELECT count(*) FROM chats WHERE user_id = ?')
  const change = connection.writer(
    `UPDATE chats SET (${chats.columns(changing)}) = (${chats.marks(changing)}) WHERE id = ?`,
  )
  const remove = connection.writer('DELETE FROM chats WHERE id = ? AND user_id = ?')

  return {
    async createChat(chat) {
      await commits.write(() => insert(...chats.values(chat)))
    },

    async findChat(userId, chatId) {
      const cells = find(chatId, userId)
      return cells && chats.row(cells)
    },

    async listChats(userId, limit, after) {
      const page = after
        ? nextPage(userId, after.updatedAt.getTime(), after.id, limit)
        : firstPage(userId, limit)
      return (page ?? []).map((cells) => chats.row(cells))
    },

    async countChats(userId) {
      return count(userId) ?? 0
    },

    async updateChat(userId, chatId, patch, now) {
      return commits.write(() => {
        const cells = find(chatId, userId)
        if (!cells) return undefined
        const { options: ownOptions, system: ownSystem, ...chat } = chats.row(cells)
        const { title = chat.title, model = chat.model } = patch
        const { options = ownOptions, system = ownSystem } = patch
        const updatedAt = new Date(Math.max(now.getTime(), chat.updatedAt.getTime()))
        const wide = { ...(options && { options }), ...(typeof system === 'string' && { system }) }
        const next: ChatRow = { ...chat, title, model, ...wide, updatedAt }
        change(...chats.values(next, changing), chatId)
        return next
      })
    },

    async deleteChat(userId, chatId) {
      // A foreign key deletes its messages with it.
      return commits.write(() => remove(chatId, userId) > 0)
    },
  }
}
