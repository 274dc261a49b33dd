import type { Collection, Db, IndexDescription } from 'mongodb'
import type { ChatRow, MessageRow, SessionRow, TextPiece, UserRow } from '../store.js'

type Document<Row> = Omit<Row, 'id'> & { _id: string }

/** A user that is being deleted has keys that nobody logs in with. */
export type UserDocument = Document<UserRow> & {
  usernameKey: string
  emailKey: string
  deleting?: true
}

/** Sessions from before `spentAt` was kept have none. */
export type SessionDocument = Document<Omit<SessionRow, 'spentAt'>> &
  Partial<Pick<SessionRow, 'spentAt'>>

/** A chat that is being deleted has `deletedFrom` instead of `userId`, so that no query finds it. */
export type ChatDocument = Document<Omit<ChatRow, 'userId'>> & {
  userId?: string
  deletedFrom?: string
}

export type MessageDocument = Document<MessageRow> & {
  /** Its chat's id, while it has a lease: keeps the index of the active ones small. */
  activeIn?: string
  /** Which call of appendTurn stored it. */
  attempt?: string
  /** Of a user's message: given to its chat, which had no title when it was stored. */
  title?: string
  /** What checkpoints added to its texts since it was written whole. */
  pieces?: TextPiece[]
}

export interface Collections {
  users: Collection<UserDocument>
  sessions: Collection<SessionDocument>
  chats: Collection<ChatDocument>
  messages: Collection<MessageDocument>
}

/** Each index by what needs it. None is partial and none expires rows: not every server has these. */
const indexes: Record<keyof Collections, IndexDescription[]> = {
  users: [
    { name: 'findUserByLogin_username', key: { usernameKey: 1 }, unique: true },
    { name: 'findUserByLogin_email', key: { emailKey: 1 }, unique: true },
    { name: 'finishUserDeletions', key: { deleting: 1 }, sparse: true },
  ],
  sessions: [
    { name: 'deleteExpiredSessions', key: { expiresAt: 1 } },
    { name: 'deleteSessionsOf', key: { userId: 1 } },
  ],
  chats: [
    { name: 'listChats', key: { userId: 1, updatedAt: -1, _id: -1 } },
    { name: 'finishDeletions', key: { deletedFrom: 1 }, sparse: true },
  ],
  messages: [
    { name: 'listMessages', key: { chatId: 1, seq: 1 }, unique: true },
    { name: 'listActiveReplies', key: { activeIn: 1 }, sparse: true },
    { name: 'findLapsedReplies', key: { leaseUntil: 1 }, sparse: true },
  ],
}

/** The collections of `db`, each with its indexes made. */
export async function openCollections(db: Db): Promise<Collections> {
  const options = {
    // What was acknowledged outlives the loss of a primary.
    writeConcern: { w: 'majority' },
    ignoreUndefined: true,
  } as const
  const collections: Collections = {
    users: db.collection<UserDocument>('users', options),
    sessions: db.collection<SessionDocument>('sessions', options),
    chats: db.collection<ChatDocument>('chats', options),
    messages: db.collection<MessageDocument>('messages', options),
  }
  await Promise.all([
    collections.users.createIndexes(indexes.users),
    collections.sessions.createIndexes(indexes.sessions),
    collections.chats.createIndexes(indexes.chats),
    collections.messages.createIndexes(indexes.messages),
  ])
  return collections
}
