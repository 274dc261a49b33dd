import { AppError } from '../../errors.js'
import { loginKey } from '../login-key.js'
import type { AccountStore } from '../parts.js'
import { type Connection, isTaken } from './connection.js'
import type { GroupCommit } from './group-commit.js'

type UserCells = [
  id: string,
  username: string,
  email: string,
  passwordHash: string,
  createdAt: number,
]

type SessionCells = [
  id: string,
  userId: string,
  generation: number,
  rotatedAt: number,
  expiresAt: number,
  spentAt: number[],
]

const userOf = ([id, username, email, passwordHash, createdAt]: UserCells) => ({
  id,
  username,
  email,
  passwordHash,
  createdAt: new Date(createdAt),
})

const timesOf = (dates: readonly Date[]) => JSON.stringify(dates.map((date) => date.getTime()))

/** Users and sessions. */
export function createAccounts(connection: Connection, commits: GroupCommit): AccountStore {
  const selectUser =
    'SELECT json_array(id, username, email, password_hash, created_at) FROM users WHERE'
  const insertUser = connection.writer(
    `INSERT INTO users (id, username, email, username_key, email_key, password_hash, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
  )
  const userById = connection.reader<UserCells>(`${selectUser} id = ?`)
  const userByUsername = connection.reader<UserCells>(`${selectUser} username_key = ?`)
  const userByEmail = connection.reader<UserCells>(`${selectUser} email_key = ?`)

  const insertSession = connection.writer(
    `INSERT INTO sessions (id, user_id, generation, rotated_at, expires_at, spent_at)
     VALUES (?, ?, ?, ?, ?, ?)`,
  )
  const sessionById = connection.reader<SessionCells>(
    `SELECT json_array(id, user_id, generation, rotated_at, expires_at, json(spent_at))
     FROM sessions WHERE id = ?`,
  )
  const moveSession = connection.writer(
    `UPDATE sessions SET generation = generation + 1, rotated_at = ?, expires_at = ?, spent_at = ?
     WHERE id = ? AND generation = ?`,
  )
  const liveSessions = connection.reader<string[]>(
    `SELECT json_group_array(id) FROM sessions
     WHERE id IN (SELECT value FROM json_each(?)) AND expires_at > ?`,
  )
  const removeUser = connection.writer('DELETE FROM users WHERE id = ?')
  // Their messages go in the same statement, by their foreign key.
  const removeChats = connection.writer('DELETE FROM chats WHERE user_id = ?')
  const sessionsOf = connection.reader<string[]>(
    'SELECT json_group_array(id) FROM sessions WHERE user_id = ?',
  )
  const removeSessions = connection.writer('DELETE FROM sessions WHERE user_id = ?')
  const removeSession = connection.writer('DELETE FROM sessions WHERE id = ?')
  const removeExpired = connection.writer('DELETE FROM sessions WHERE expires_at <= ?')

  return {
    async createUser({ id, username, email, passwordHash, createdAt }) {
      const keys = [loginKey(username), loginKey(email)] as const
      try {
        await commits.write(() =>
          insertUser(id, username, email, ...keys, passwordHash, createdAt.getTime()),
        )
      } catch (error) {
        throw isTaken(error) ? new AppError('USER_TAKEN') : error
      }
    },

    async findUser(id) {
      const cells = userById(id)
      return cells && userOf(cells)
    },

    async findUserByLogin(login) {
      const cells =
        'username' in login
          ? userByUsername(loginKey(login.username))
          : userByEmail(loginKey(login.email))
      return cells && userOf(cells)
    },

    async deleteUser(id) {
      return commits.write(() => {
        removeSessions(id)
        removeChats(id)
        return removeUser(id) > 0
      })
    },

    async createSession({ id, userId, generation, rotatedAt, expiresAt, spentAt }) {
      const times = [rotatedAt.getTime(), expiresAt.getTime(), timesOf(spentAt)] as const
      await commits.write(() => insertSession(id, userId, generation, ...times))
    },

    async findSession(sessionId) {
      const cells = sessionById(sessionId)
      if (!cells) return undefined
      const [id, userId, generation, rotatedAt, expiresAt, spentAt] = cells
      return {
        id,
        userId,
        generation,
        rotatedAt: new Date(rotatedAt),
        expiresAt: new Date(expiresAt),
        spentAt: spentAt.map((time) => new Date(time)),
      }
    },

    async rotateSession(id, generation, { rotatedAt, expiresAt, spentAt }) {
      const times = [rotatedAt.getTime(), expiresAt.getTime(), timesOf(spentAt)] as const
      return commits.write(() => moveSession(...times, id, generation) > 0)
    },

    async findLiveSessions(ids, now) {
      return liveSessions(JSON.stringify(ids), now.getTime()) ?? []
    },

    async deleteSession(id) {
      return commits.write(() => removeSession(id) > 0)
    },

    async deleteSessionsOf(userId) {
      return commits.write(() => {
        const ids = sessionsOf(userId) ?? []
        removeSessions(userId)
        return ids
      })
    },

    async deleteExpiredSessions(now) {
      await commits.write(() => removeExpired(now.getTime()))
    },
  }
}
