import { join } from 'node:path'
import { touchPrivate } from './data-dir.js'
import { createAccounts } from './sqlite/accounts.js'
import { createChats } from './sqlite/chats.js'
import { Connection } from './sqlite/connection.js'
import { GroupCommit } from './sqlite/group-commit.js'
import { createMessages } from './sqlite/messages.js'
import { migrate } from './sqlite/schema.js'
import type { Store } from './store.js'

/** How long deletions share one emptying of the log, in milliseconds. */
const emptyLogMs = 1000

/**
 * The store in `chat.db` under `dataDir`, which the caller holds (data-dir.ts): replies that have
 * not ended belonged to a process that is gone, so their leases are over at once.
 * @throws Error that names the file and what is wrong with it.
 */
export function openSqliteStore(dataDir: string): Store {
  const path = join(dataDir, 'chat.db')
  let connection: Connection | undefined
  try {
    touchPrivate(path)
    connection = new Connection(path)
    migrate(connection)
    connection.exec(`
      PRAGMA journal_mode = WAL;
      -- What was acknowledged outlives a power cut.
      PRAGMA synchronous = FULL;
      PRAGMA foreign_keys = ON;
      PRAGMA cache_size = -16000;
      -- What is deleted is overwritten.
      PRAGMA secure_delete = ON;
      UPDATE messages SET lease_until = 0 WHERE lease_until IS NOT NULL;
      -- From here on group-commit.ts waits for locks.
      PRAGMA busy_timeout = 0;
    `)
    return storeOf(connection)
  } catch (error) {
    connection?.close()
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`The database ${path} cannot be used: ${reason}`, { cause: error })
  }
}

function storeOf(connection: Connection): Store {
  const answer = connection.reader<number>('SELECT 1')
  const commits = new GroupCommit(connection)
  let emptying: NodeJS.Timeout | undefined
  /** The log has what was deleted until it is emptied, which a reader elsewhere may put off. */
  const emptyLogSoon = () => {
    emptying ??= setTimeout(() => {
      emptying = undefined
      if (!connection.emptyLog()) emptyLogSoon()
    }, emptyLogMs).unref()
  }
  const accounts = createAccounts(connection, commits)
  const chats = createChats(connection, commits)
  return {
    async ping() {
      answer()
    },
    async close() {
      clearTimeout(emptying)
      await commits.close()
      connection.close()
    },
    ...accounts,
    async deleteUser(id) {
      const deleted = await accounts.deleteUser(id)
      emptyLogSoon()
      return deleted
    },
    ...chats,
    async deleteChat(userId, chatId) {
      const deleted = await chats.deleteChat(userId, chatId)
      if (deleted) emptyLogSoon()
      return deleted
    },
    async finishDeletions() {
      emptyLogSoon()
    },
    ...createMessages(connection, commits),
  }
}
