import { AppError } from '../../errors.js'
import { loginKey } from '../login-key.js'
import type { AccountStore } from '../store.js'
import type { Collections } from './collections.js'
import type { Deletions } from './deletions.js'
import { documentOf, objectId, sessionOf, userOf } from './documents.js'
import { isDuplicate } from './faults.js'

/** Users and sessions. */
export function createAccounts(
  { users, sessions }: Collections,
  deletions: Deletions,
): AccountStore {
  return {
    async createUser(user) {
      const keys = { usernameKey: loginKey(user.username), emailKey: loginKey(user.email) }
      try {
        await users.insertOne({ ...documentOf(user), ...keys })
      } catch (error) {
        throw isDuplicate(error) ? new AppError('USER_TAKEN') : error
      }
    },

    async findUser(id) {
      const user = await users.findOne({ ...documentOf({ id }), deleting: { $exists: false } })
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

    async createSession(session) {
      await sessions.insertOne(documentOf(session))
    },

    async findSession(id) {
      const session = await sessions.findOne(documentOf({ id }))
      return session ? sessionOf(session) : undefined
    },

    async rotateSession(id, generation, { rotatedAt, spentAt, expiresAt }) {
      const { matchedCount } = await sessions.updateOne(documentOf({ id, generation }), {
        $set: { generation: generation + 1, rotatedAt, spentAt, expiresAt },
      })
      return matchedCount > 0
    },

    async findLiveSessions(ids, now) {
      const found = sessions.find(
        { _id: { $in: ids.map(objectId) }, expiresAt: { $gt: now } },
        { projection: { _id: 1 } },
      )
      return (await found.toArray()).map(({ _id }) => _id.toHexString())
    },

    async deleteSession(id) {
      const { deletedCount } = await sessions.deleteOne(documentOf({ id }))
      return deletedCount > 0
    },

    async deleteSessionsOf(userId) {
      const ofUser = documentOf({ userId })
      const found = await sessions.find(ofUser, { projection: { _id: 1 } }).toArray()
      const ids = found.map(({ _id }) => _id)
      if (ids.length > 0) await sessions.deleteMany({ _id: { $in: ids } })
      return ids.map((id) => id.toHexString())
    },

    async deleteExpiredSessions(now) {
      await sessions.deleteMany({ expiresAt: { $lte: now } })
    },
  }
}
