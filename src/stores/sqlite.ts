import { join } from 'node:path'
import { createAccounts } from './sqlite/accounts.js'
import { createChats } from './sqlite/chats.js'
import { Connection } from './sqlite/connection.js'
import { GroupCommit } from './sqlite/group-commit.js'
import { createMessages } from './sqlite/messages.js'
import { migrate } from './sqlite/schema.js'
import type { Store } from './store.js'

/**
 * The store in `chat.db` under `dataDir`, which the caller holds (data-dir.ts): replies that have
 * not ended belonged to a process that is gone, so their leases are over at once.
 * @throws Error that names the file and what is wrong with it.
 */
export function openSqliteStore(dataDir: string): Store {
  const path = join(dataDir, 'chat.db')
  let connection: Connection | undefined
  try {
    connection = new Connection(path)
    migrate(connection)
    connection.exec(`
      PRAGMA journal_mode = WAL;
      -- What was acknowledged outlives a power cut.
      PRAGMA synchronous = FULL;
      PRAGMA foreign_keys = ON;
      PRAGMA cache_size = -16000;
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
  return {
    async ping() {
      answer()
    },
    async close() {
      await commits.close()
      connection.close()
    },
    async finishDeletions() {
      // Each is one transaction.
    },
    ...createAccounts(connection, commits),
    ...createChats(connection, commits),
    ...createMessages(connection, commits),
  }
}
