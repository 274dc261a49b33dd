import { AppError } from '../../errors.js'
import type {
  ChatRow,
  MessageRow,
  MessageStore,
  MessageText,
  ReplyChange,
  ReplyCondition,
  TextPiece,
} from '../store.js'
import { withPieces } from '../text-pieces.js'
import { chats } from './chats.js'
import type { Connection } from './connection.js'
import type { GroupCommit } from './group-commit.js'
import { type Cells, Table } from './table.js'

const messages = new Table<MessageRow>({
  id: 'plain',
  chatId: 'plain',
  userId: 'plain',
  seq: 'plain',
  role: 'plain',
  model: 'plain',
  options: 'json',
  createdAt: 'date',
  fingerprint: 'plain',
  status: 'plain',
  content: 'plain',
  thinking: 'plain',
  finishReason: 'plain',
  usage: 'json',
  error: 'json',
  completedAt: 'date',
  epoch: 'plain',
  epochStart: 'plain',
  takeovers: 'plain',
  owner: 'plain',
  leaseUntil: 'date',
  tokens: 'json',
})

/** What a reply's run changes. */
const changing = [
  ...(['status', 'content', 'thinking', 'finishReason', 'usage', 'error', 'completedAt'] as const),
  ...(['epoch', 'epochStart', 'takeovers', 'owner', 'leaseUntil', 'tokens'] as const),
]

/** A message's text; `activeId` is the id of a reply that has not ended, which may have pieces. */
type TextCells = MessageText & { activeId: string | null }

/** Messages: users' and replies. */
export function createMessages(connection: Connection, commits: GroupCommit): MessageStore {
  const one = (where: string) =>
    connection.reader<Cells<MessageRow>>(`SELECT ${messages.json()} FROM messages WHERE ${where}`)
  // The aggregate keeps the order of the inner statement.
  const many = (where: string) =>
    connection.reader<Cells<MessageRow>[]>(
      `SELECT json_group_array(${messages.json()}) FROM (
         SELECT ${messages.columns()} FROM messages WHERE ${where})`,
    )
  const byId = one('id = ?')
  const byPlace = one('chat_id = ? AND seq = ?')
  const ofChat = one('id = ? AND chat_id = ? AND user_id = ?')
  const ofUser = one(`id = ? AND user_id = ? AND role = 'user'`)
  const page = many('chat_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?')
  const active = many('chat_id = ? AND lease_until IS NOT NULL ORDER BY seq')
  const activeOfUser = many('lease_until IS NOT NULL AND user_id = ?')
  const lapsed = many('lease_until <= ? ORDER BY created_at, seq LIMIT ?')
  const texts = connection.reader<TextCells[]>(
    `SELECT json_group_array(json_object('seq', seq, 'role', role, 'content', content,
       'activeId', iif(lease_until IS NULL, NULL, id)))
     FROM (SELECT seq, role, content, lease_until, id FROM messages
       WHERE chat_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?)`,
  )
  const pieces = connection.reader<TextPiece[]>(
    `SELECT json_group_array(json_object(
       'from', json_object('content', content_from, 'thinking', thinking_from),
       'content', content, 'thinking', thinking, 'tokens', tokens))
     FROM (SELECT * FROM pieces WHERE message_id = ? ORDER BY rowid)`,
  )

  const insert = connection.writer(
    `INSERT INTO messages (${messages.columns()}) VALUES (${messages.marks()})`,
  )
  const moveChat = connection.reader<Cells<ChatRow>>(
    `UPDATE chats SET
       message_count = 2 + (SELECT coalesce(max(seq), 0) FROM messages WHERE chat_id = chats.id),
       updated_at = max(updated_at, ?), title = coalesce(title, ?)
     WHERE id = ? AND user_id = ? RETURNING ${chats.json()}`,
  )
  const store = connection.writer(
    `UPDATE messages SET (${messages.columns(changing)}) = (${messages.marks(changing)}) WHERE id = ?`,
  )
  const addPiece = connection.writer(
    `INSERT INTO pieces (message_id, content_from, thinking_from, content, thinking, tokens)
     SELECT id, ?, ?, ?, ?, ? FROM messages
     WHERE id = ? AND owner = ? AND epoch = ? AND status = 'streaming'`,
  )
  const removePieces = connection.writer('DELETE FROM pieces WHERE message_id = ?')
  const ofOwner = `id IN (SELECT value FROM json_each(?)) AND owner = ? AND lease_until IS NOT NULL`
  const extendLeases = connection.writer(
    `UPDATE messages SET lease_until = max(lease_until, ?) WHERE ${ofOwner}`,
  )
  const heldOf = connection.reader<string[]>(
    `SELECT json_group_array(id) FROM messages WHERE ${ofOwner}`,
  )
  const firstLeaseEnd = connection.reader<number>(
    'SELECT lease_until FROM messages WHERE lease_until IS NOT NULL ORDER BY lease_until LIMIT 1',
  )

  /** A row with what its checkpoints have added. */
  const whole = (cells: Cells<MessageRow>) => {
    const row = messages.row(cells)
    return row.leaseUntil ? withPieces(row, pieces(row.id) ?? []) : row
  }
  const replyTo = (message: MessageRow) => {
    const cells = byPlace(message.chatId, message.seq + 1)
    return cells && whole(cells)
  }

  return {
    async appendTurn({ message, reply, title }) {
      return commits.write(() => {
        const cells = byId(message.id)
        if (cells) {
          const stored = messages.row(cells)
          if (stored.chatId !== message.chatId || stored.fingerprint !== message.fingerprint) {
            throw new AppError('IDEMPOTENCY_KEY_REUSED')
          }
          const storedReply = replyTo(stored)
          // They were stored in one transaction.
          if (!storedReply) throw new Error(`Message ${stored.id} has no reply.`)
          return { message: stored, reply: storedReply, created: false }
        }
        const at = message.createdAt.getTime()
        const moved = moveChat(at, title, message.chatId, message.userId)
        if (!moved) throw new AppError('CHAT_NOT_FOUND')
        const chat = chats.row(moved)
        const turn = {
          message: { seq: chat.messageCount - 1, ...message },
          reply: { seq: chat.messageCount, ...reply },
        }
        insert(...messages.values(turn.message))
        insert(...messages.values(turn.reply))
        return { created: true, chat, ...turn }
      })
    },

    async findMessage(userId, chatId, messageId) {
      const cells = ofChat(messageId, chatId, userId)
      return cells && whole(cells)
    },

    async findTurn(userId, messageId) {
      const cells = ofUser(messageId, userId)
      if (!cells) return undefined
      const message = messages.row(cells)
      const reply = replyTo(message)
      return reply && { message, reply }
    },

    async listMessages(chatId, limit, before = Number.MAX_SAFE_INTEGER) {
      return (page(chatId, before, limit) ?? []).map(whole).reverse()
    },

    async listTexts(chatId, limit, before) {
      const page = texts(chatId, before, limit) ?? []
      return page
        .map(({ activeId, content, ...text }): MessageText => {
          const added = activeId === null ? [] : (pieces(activeId) ?? [])
          return { ...text, content: withPieces({ content }, added).content }
        })
        .reverse()
    },

    async listActiveReplies(chatId) {
      return (active(chatId) ?? []).map(whole)
    },

    async listActiveRepliesOf(userId) {
      return (activeOfUser(userId) ?? []).map(whole)
    },

    async updateReply(id, condition, change) {
      return commits.write(() => {
        const cells = byId(id)
        const reply = cells && whole(cells)
        if (!reply || !holds(reply, condition)) return undefined
        const next = changed(reply, change)
        store(...messages.values(next, changing), id)
        removePieces(id)
        return next
      })
    },

    async checkpoint(checkpoints) {
      if (checkpoints.length === 0) return []
      const store = () =>
        checkpoints
          .filter(({ id, owner, epoch, from, content, thinking, tokens }) => {
            const piece = [from.content, from.thinking, content, thinking, tokens] as const
            return addPiece(...piece, id, owner, epoch) === 0
          })
          .map(({ id }) => id)
      // Every running reply's tokens would wait for the disk.
      return commits.write(store, false)
    },

    async renewLeases(owner, ids, until) {
      const list = JSON.stringify(ids)
      const extended = await commits.write(
        () => extendLeases(until.getTime(), list, owner),
        // An opening ends every lease.
        false,
      )
      if (extended === ids.length) return []
      const held = new Set(heldOf(list, owner))
      return ids.filter((id) => !held.has(id))
    },

    async findLapsedReplies(now, limit) {
      return (lapsed(now.getTime(), limit) ?? []).map(whole)
    },

    async firstLeaseEnd() {
      const end = firstLeaseEnd()
      return end === undefined ? undefined : new Date(end)
    },
  }
}

function holds(reply: MessageRow, { status, epoch, owner, leaseUntil }: ReplyCondition): boolean {
  return (
    status.includes(reply.status) &&
    (epoch === undefined || reply.epoch === epoch) &&
    (owner === undefined || (reply.owner ?? null) === owner) &&
    (leaseUntil === undefined || reply.leaseUntil?.getTime() === leaseUntil.getTime())
  )
}

function changed(reply: MessageRow, change: ReplyChange): MessageRow {
  const next = { ...reply }
  for (const [name, value] of Object.entries(change)) {
    if (value === null) Reflect.deleteProperty(next, name)
    else if (value !== undefined) Object.assign(next, { [name]: value })
  }
  return next
}
