import type { Collection, Db, IndexDescription } from 'mongodb'
import type { ChatDocument, MessageDocument, SessionDocument, UserDocument } from './documents.js'

export interface Collections {
  users: Collection<UserDocument>
  sessions: Collection<SessionDocument>
  chats: Collection<ChatDocument>
  messages: Collection<MessageDocument>
}

/** Indexes, named by the method that needs them. None is partial or expires documents: not every server can. */
const indexes: Record<keyof Collections, IndexDescription[]> = {
  users: [
    { name: 'findUserByLogin_username', key: { usernameKey: 1 }, unique: true },
    { name: 'findUserByLogin_email', key: { emailKey: 1 }, unique: true },
    { name: 'finishUserDeletions', key: { deleting: 1 }, sparse: true },
  ],
  sessions: [
    { name: 'deleteExpiredSessions', key: { expiresAt: 1 } },
    { name: 'deleteSessionsOf', key: { user: 1 } },
  ],
  chats: [
    { name: 'listChats', key: { user: 1, updatedAt: -1, _id: -1 } },
    { name: 'finishDeletions', key: { deletedFrom: 1 }, sparse: true },
  ],
  messages: [
    { name: 'listMessages', key: { chat: 1, seq: 1 }, unique: true },
    { name: 'listActiveReplies', key: { activeIn: 1 }, sparse: true },
    { name: 'findLapsedReplies', key: { leaseUntil: 1 }, sparse: true },
  ],
}

export const collectionNames = Object.keys(indexes)

/** Opens the collections of `db` and creates their indexes. */
export async function openCollections(db: Db): Promise<Collections> {
  const options = {
    // An acknowledged write survives the loss of a primary.
    writeConcern: { w: 'majority' },
    ignoreUndefined: true,
  } as const
  await Promise.all(
    Object.entries(indexes).map(([name, made]) => db.collection(name, options).createIndexes(made)),
  )
  return {
    users: db.collection('users', options),
    sessions: db.collection('sessions', options),
    chats: db.collection('chats', options),
    messages: db.collection('messages', options),
  }
}
