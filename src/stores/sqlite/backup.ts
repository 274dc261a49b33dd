import { copyFileSync, existsSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Libsql from 'libsql'
import { type Counts, discardPartial, finish, partialOf, refuseExisting, sync } from '../backup.js'
import { holdDataDir, touchPrivate } from '../data-dir.js'
import { newestSchema } from './schema.js'

/** How long a backup waits for a lock of the server's, in milliseconds. */
const lockTimeoutMs = 10_000

function withDatabase<T>(path: string, readonly: boolean, use: (db: Libsql.Database) => T): T {
  const db = new Libsql(path, { readonly, timeout: lockTimeoutMs })
  try {
    return use(db)
  } finally {
    db.close()
  }
}

function cell(db: Libsql.Database, sql: string): unknown {
  const [value] = db.prepare(sql).raw().get([]) as [unknown]
  return value
}

const countsOf = (db: Libsql.Database): Counts => {
  const count = (table: keyof Counts) => Number(cell(db, `SELECT count(*) FROM ${table}`))
  return {
    users: count('users'),
    chats: count('chats'),
    messages: count('messages'),
    sessions: count('sessions'),
  }
}

/**
 * Copies the database of `dataDir` to `file`, as it is at one moment; a server may write meanwhile.
 * @throws Error that says what to do.
 */
export function backupSqlite(dataDir: string, file: string): Counts {
  const path = join(dataDir, 'chat.db')
  if (!existsSync(path)) throw new Error(`There is no database in DATA_DIR (${dataDir}).`)
  refuseExisting(file)
  discardPartial(file)
  try {
    touchPrivate(partialOf(file))
    withDatabase(path, false, (db) => db.prepare('VACUUM INTO ?').run([partialOf(file)]))
    const counts = withDatabase(partialOf(file), true, checked)
    finish(file)
    return counts
  } catch (error) {
    discardPartial(file)
    throw error
  }
}

/** @throws Error when the file is damaged, or has a schema that this program does not know. */
function checked(db: Libsql.Database): Counts {
  const found = cell(db, 'PRAGMA quick_check(1)')
  if (found !== 'ok') throw new Error(`the file is damaged: ${found}`)
  const schema = Number(cell(db, 'SELECT user_version FROM pragma_user_version'))
  if (schema === 0) throw new Error('it is a database of another program')
  if (schema > newestSchema) {
    throw new Error(
      `a newer version of this program made it (schema ${schema}): restore it by that`,
    )
  }
  return countsOf(db)
}

/**
 * Puts a backup in the place of the database of `dataDir`, which no server may be using.
 * @param overwrite whether a database that has users may be replaced.
 * @throws Error that says what to do; nothing was changed then.
 */
export function restoreSqlite(file: string, dataDir: string, overwrite: boolean): Counts {
  const counts = inspect(file)
  const hold = holdDataDir(dataDir)
  try {
    const path = join(dataDir, 'chat.db')
    if (!overwrite && existsSync(path) && hasUsers(path)) {
      throw new Error(
        `The database in DATA_DIR (${dataDir}) has users: set another DATA_DIR, or add --overwrite ` +
          'to replace all that is in it.',
      )
    }
    const copy = `${path}.restoring`
    rmSync(copy, { force: true })
    touchPrivate(copy)
    copyFileSync(file, copy)
    sync(copy)
    // A log of the old file would be applied to the new one.
    for (const log of ['-wal', '-shm']) rmSync(path + log, { force: true })
    renameSync(copy, path)
    sync(dataDir)
    return counts
  } finally {
    hold.release()
  }
}

function inspect(file: string): Counts {
  const found = statSync(file, { throwIfNoEntry: false })
  if (!found) throw new Error(`There is no file ${file}.`)
  if (found.isDirectory()) {
    throw new Error(
      `${file} is a folder, as backups of MongoDB are: set MONGODB_URI to restore one.`,
    )
  }
  try {
    return withDatabase(file, true, checked)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`${file} is no backup of a SQLite database: ${reason}.`)
  }
}

function hasUsers(path: string): boolean {
  return withDatabase(path, false, (db) => {
    const tables = cell(db, "SELECT count(*) FROM sqlite_master WHERE name = 'users'")
    return tables === 1 && countsOf(db).users > 0
  })
}
