import type { GenerationOptions } from '../../../schemas/messages.js'
import type { ChatStore } from '../parts.js'
import type { ChatRow } from '../store.js'
import type { Connection } from './connection.js'
import type { GroupCommit } from './group-commit.js'

type SummaryCells = [
  id: string,
  title: string | null,
  model: string | null,
  messageCount: number,
  createdAt: number,
  updatedAt: number,
]

export type ChatCells = [...SummaryCells, options: GenerationOptions | null, system: string | null]

const summaryColumns = 'id, title, model, message_count, created_at, updated_at'
/** A chat as one JSON array, as `chatOf` takes it. */
export const chatJson = `json_array(${summaryColumns}, json(options), system)`

export function chatOf(userId: string, cells: SummaryCells | ChatCells): ChatRow {
  const [id, title, model, messageCount, createdAt, updatedAt, options, system] = cells
  const chat: ChatRow = {
    id,
    userId,
    title,
    model,
    messageCount,
    createdAt: new Date(createdAt),
    updatedAt: new Date(updatedAt),
  }
  if (options) chat.options = options
  if (typeof system === 'string') chat.system = system
  return chat
}

const jsonOrNull = (value: object | null | undefined) => (value ? JSON.stringify(value) : null)

/** Chats. `listChats` leaves `options` and `system` out: they are wide, and no list shows them. */
export function createChats(connection: Connection, commits: GroupCommit): ChatStore {
  const insert = connection.writer(
    `INSERT INTO chats (user_id, ${summaryColumns}, options, system) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  const find = connection.reader<ChatCells>(
    `SELECT ${chatJson} FROM chats WHERE id = ? AND user_id = ?`,
  )
  // The aggregate takes the rows as the inner statement's index gives them.
  const page = (where: string) =>
    connection.reader<SummaryCells[]>(
      `SELECT json_group_array(json_array(${summaryColumns})) FROM (
         SELECT ${summaryColumns} FROM chats WHERE user_id = ? ${where}
         ORDER BY updated_at DESC, id DESC LIMIT ?)`,
    )
  const firstPage = page('')
  const nextPage = page('AND (updated_at, id) < (?, ?)')
  const count = connection.reader<number>('SELECT count(*) FROM chats WHERE user_id = ?')
  const change = connection.writer(
    `UPDATE chats SET title = ?, model = ?, options = ?, system = ?, updated_at = ? WHERE id = ?`,
  )
  const remove = connection.writer('DELETE FROM chats WHERE id = ? AND user_id = ?')

  return {
    async createChat({ id, userId, title, model, messageCount, createdAt, updatedAt, ...rest }) {
      const times = [createdAt.getTime(), updatedAt.getTime()] as const
      const { options, system } = rest
      const wide = [jsonOrNull(options), system ?? null] as const
      await commits.write(() => insert(userId, id, title, model, messageCount, ...times, ...wide))
    },

    async findChat(userId, chatId) {
      const cells = find(chatId, userId)
      return cells && chatOf(userId, cells)
    },

    async listChats(userId, limit, after) {
      const cells = after
        ? nextPage(userId, after.updatedAt.getTime(), after.id, limit)
        : firstPage(userId, limit)
      return (cells ?? []).map((row) => chatOf(userId, row))
    },

    async countChats(userId) {
      return count(userId) ?? 0
    },

    async updateChat(userId, chatId, patch, now) {
      return commits.write(() => {
        const cells = find(chatId, userId)
        if (!cells) return undefined
        const chat = chatOf(userId, cells)
        const { title = chat.title, model = chat.model } = patch
        const { options = chat.options ?? null, system = chat.system ?? null } = patch
        const updatedAt = new Date(Math.max(now.getTime(), chat.updatedAt.getTime()))
        const wide = [jsonOrNull(options), system] as const
        change(title, model, ...wide, updatedAt.getTime(), chatId)
        const { options: _, system: __, ...rest } = chat
        const kept = { ...(options && { options }), ...(system !== null && { system }) }
        return { ...rest, title, model, ...kept, updatedAt }
      })
    },

    async deleteChat(userId, chatId) {
      // Its messages go in the same statement, by their foreign key.
      return commits.write(() => remove(chatId, userId) > 0)
    },
  }
}
