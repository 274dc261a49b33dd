import { AppError } from '../../errors.js'
import { loginKey } from '../login-key.js'
import type { AccountStore } from '../parts.js'
import type { SessionRow, UserRow } from '../store.js'
import type { Collections, SessionDocument, UserDocument } from './collections.js'
import type { Deletions } from './deletions.js'
import { isDuplicate } from './faults.js'

function userOf({
  _id,
  usernameKey: _,
  emailKey: __,
  deleting: ___,
  ...user
}: UserDocument): UserRow {
  return { id: _id, ...user }
}

function sessionOf({ _id, spentAt = [], ...session }: SessionDocument): SessionRow {
  return { id: _id, ...session, spentAt }
}

/** Users and sessions. */
export function createAccounts(
  { users, sessions }: Collections,
  deletions: Deletions,
): AccountStore {
  return {
    async createUser({ id, ...user }) {
      const { username, email } = user
      const keys = { usernameKey: loginKey(username), emailKey: loginKey(email) }
      try {
        await users.insertOne({ _id: id, ...user, ...keys })
      } catch (error) {
        throw isDuplicate(error) ? new AppError('USER_TAKEN') : error
      }
    },

    async findUser(id) {
      const user = await users.findOne({ _id: id, deleting: { $exists: false } })
      return user ? userOf(user) : undefined
    },

    async findUserByLogin(login) {
      const user = await users.findOne(
        'username' in login
          ? { usernameKey: loginKey(login.username) }
          : { emailKey: loginKey(login.email) },
      )
      return user ? userOf(user) : undefined
    },

    deleteUser: (id) => deletions.deleteUser(id),

    async createSession({ id, ...session }) {
      await sessions.insertOne({ _id: id, ...session })
    },

    async findSession(id) {
      const session = await sessions.findOne({ _id: id })
      return session ? sessionOf(session) : undefined
    },

    async rotateSession(id, generation, { rotatedAt, spentAt, expiresAt }) {
      const { matchedCount } = await sessions.updateOne(
        { _id: id, generation },
        { $set: { generation: generation + 1, rotatedAt, spentAt, expiresAt } },
      )
      return matchedCount > 0
    },

    async findLiveSessions(ids, now) {
      const found = sessions.find(
        { _id: { $in: [...ids] }, expiresAt: { $gt: now } },
        { projection: { _id: 1 } },
      )
      return (await found.toArray()).map(({ _id }) => _id)
    },

    async deleteSession(id) {
      const { deletedCount } = await sessions.deleteOne({ _id: id })
      return deletedCount > 0
    },

    async deleteSessionsOf(userId) {
      const found = await sessions.find({ userId }, { projection: { _id: 1 } }).toArray()
      const ids = found.map(({ _id }) => _id)
      if (ids.length > 0) await sessions.deleteMany({ _id: { $in: ids } })
      return ids
    },

    async deleteExpiredSessions(now) {
      await sessions.deleteMany({ expiresAt: { $lte: now } })
    },
  }
}
