import { join } from 'node:path'
import Libsql from 'libsql'

/** What the rivals ask of the same SQLite file, of the same tables, as anybody would write it. */
export function openQueries(dataDir: string) {
  const db = new Libsql(join(dataDir, 'chat.db'))
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')

  const chats = db.prepare(
    `SELECT id, title, model, message_count AS messageCount, created_at AS createdAt,
       updated_at AS updatedAt
     FROM chats WHERE user_id = ? ORDER BY updated_at DESC, id DESC LIMIT ?`,
  )
  const user = db.prepare(
    'SELECT id, username, email, created_at AS createdAt FROM users WHERE id = ?',
  )
  const owned = db.prepare('SELECT id FROM chats WHERE id = ? AND user_id = ?')
  const history = db.prepare(
    'SELECT role, content FROM messages WHERE chat_id = ? ORDER BY seq DESC LIMIT 20',
  )
  const add = db.prepare(
    `INSERT INTO messages (id, chat_id, user_id, seq, role, status, created_at, epoch, epoch_start,
       takeovers, content)
     SELECT ?1, ?2, ?3, coalesce(max(seq), 0) + 1, ?4, 'complete', ?5, 1, 0, 0, ?6
     FROM messages WHERE chat_id = ?2`,
  )

  const iso = <T extends { createdAt: number }>(row: T) => ({
    ...row,
    createdAt: new Date(row.createdAt).toISOString(),
  })

  return {
    listChats(userId: string, limit: number) {
      const rows = chats.all(userId, limit) as { createdAt: number; updatedAt: number }[]
      return rows.map((row) => ({
        ...iso(row),
        updatedAt: new Date(row.updatedAt).toISOString(),
      }))
    },
    profile(userId: string) {
      const row = user.get(userId) as { createdAt: number } | undefined
      return row && iso(row)
    },
    owns: (userId: string, chatId: string) => owned.get(chatId, userId) !== undefined,
    /** The newest 20 messages, oldest first. */
    history: (chatId: string) => (history.all(chatId) as object[]).reverse(),
    addMessage(id: string, chatId: string, userId: string, role: string, content: string) {
      add.run(id, chatId, userId, role, Date.now(), content)
    },
  }
}
