import { AppError } from '../../errors.js'
import { loginKey } from '../login-key.js'
import type { AccountStore, SessionRow, UserRow } from '../store.js'
import { type Connection, isTaken } from './connection.js'
import type { GroupCommit } from './group-commit.js'
import { type Cells, Table } from './table.js'

const users = new Table<UserRow>({
  id: 'plain',
  username: 'plain',
  email: 'plain',
  passwordHash: 'plain',
  createdAt: 'date',
})

const sessions = new Table<SessionRow>({
  id: 'plain',
  userId: 'plain',
  generation: 'plain',
  rotatedAt: 'date',
  expiresAt: 'date',
  spentAt: 'dates',
})

/** What a rotation changes of a session. */
const rotated = ['rotatedAt', 'expiresAt', 'spentAt'] as const

/** Users and sessions. */
export function createAccounts(connection: Connection, commits: GroupCommit): AccountStore {
  const user = (where: string) =>
    connection.reader<Cells<UserRow>>(`SELECT ${users.json()} FROM users WHERE ${where}`)
  const insertUser = connection.writer(
    `INSERT INTO users (${users.columns()}, username_key, email_key) VALUES (${users.marks()}, ?, ?)`,
  )
  const userById = user('id = ?')
  const userByUsername = user('username_key = ?')
  const userByEmail = user('email_key = ?')

  const insertSession = connection.writer(
    `INSERT INTO sessions (${sessions.columns()}) VALUES (${sessions.marks()})`,
  )
  const sessionById = connection.reader<Cells<SessionRow>>(
    `SELECT ${sessions.json()} FROM sessions WHERE id = ?`,
  )
  const moveSession = connection.writer(
    `UPDATE sessions SET generation = generation + 1,
       (${sessions.columns(rotated)}) = (${sessions.marks(rotated)}) WHERE id = ? AND generation = ?`,
  )
  const liveSessions = connection.reader<string[]>(
    `SELECT json_group_array(id) FROM sessions
     WHERE id IN (SELECT value FROM json_each(?)) AND expires_at > ?`,
  )
  const removeUser = connection.writer('DELETE FROM users WHERE id = ?')
  // A foreign key deletes their messages with them.
  const removeChats = connection.writer('DELETE FROM chats WHERE user_id = ?')
  const sessionsOf = connection.reader<string[]>(
    'SELECT json_group_array(id) FROM sessions WHERE user_id = ?',
  )
  const removeSessions = connection.writer('DELETE FROM sessions WHERE user_id = ?')
  const removeSession = connection.writer('DELETE FROM sessions WHERE id = ?')
  const removeExpired = connection.writer('DELETE FROM sessions WHERE expires_at <= ?')

  return {
    async createUser(row) {
      const keys = [loginKey(row.username), loginKey(row.email)] as const
      try {
        await commits.write(() => insertUser(...users.values(row), ...keys))
      } catch (error) {
        throw isTaken(error) ? new AppError('USER_TAKEN') : error
      }
    },

    async findUser(id) {
      const cells = userById(id)
      return cells && users.row(cells)
    },

    async findUserByLogin(login) {
      const cells =
        'username' in login
          ? userByUsername(loginKey(login.username))
          : userByEmail(loginKey(login.email))
      return cells && users.row(cells)
    },

    async deleteUser(id) {
      return commits.write(() => {
        removeSessions(id)
        removeChats(id)
        return removeUser(id) > 0
      })
    },

    async createSession(session) {
      await commits.write(() => insertSession(...sessions.values(session)))
    },

    async findSession(id) {
      const cells = sessionById(id)
      return cells && sessions.row(cells)
    },

    async rotateSession(id, generation, rotation) {
      const values = sessions.values(rotation, rotated)
      return commits.write(() => moveSession(...values, id, generation) > 0)
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
