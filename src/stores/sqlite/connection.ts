import Libsql from 'libsql'
import { AppError } from '../../errors.js'

export type Value = string | number | null

/** How long the opening waits for another process that has the file locked, such as a backup. */
const openTimeoutMs = 2_000

/** @returns the error as the store's callers know it; what they can't know is left as it is. */
function translated(error: unknown): unknown {
  if (!(error instanceof Libsql.SqliteError)) return error
  if (/^SQLITE_(FULL|READONLY|IOERR|CANTOPEN)/.test(error.code)) {
    return new AppError('STORAGE_FULL', { cause: error })
  }
  if (lockedCode.test(error.code)) {
    const message = 'Another process has locked the database: try again.'
    return new AppError('STORE_UNAVAILABLE', { message, cause: error })
  }
  return error
}

const lockedCode = /^SQLITE_(BUSY|LOCKED)/

/** Whether another process holds the lock that was wanted. */
export function isLocked(error: unknown): boolean {
  if (!(error instanceof AppError)) return false
  return error.cause instanceof Libsql.SqliteError && lockedCode.test(error.cause.code)
}

/** Whether a UNIQUE constraint other than the primary key refused the row. */
export function isTaken(error: unknown): boolean {
  return error instanceof Libsql.SqliteError && error.code === 'SQLITE_CONSTRAINT_UNIQUE'
}

/**
 * One SQLite file. All calls are synchronous; each throws AppError STORAGE_FULL or
 * STORE_UNAVAILABLE where the file cannot be read or written. Once it has been opened, no call
 * waits for another process's lock.
 */
export class Connection {
  readonly #db: Libsql.Database
  #open = true

  constructor(path: string) {
    this.#db = this.#guarded(() => new Libsql(path, { timeout: openTimeoutMs }))
  }

  /** Runs statements that answer nothing. */
  exec(sql: string): void {
    this.#guarded(() => this.#db.exec(sql))
  }

  /** @returns a function that runs the statement and answers how many rows it changed. */
  writer(sql: string): (...values: Value[]) => number {
    const statement = this.#guarded(() => this.#db.prepare(sql))
    return (...values) => this.#guarded(() => statement.run(values).changes)
  }

  /**
   * A statement that answers one row of one column: JSON or a number.
   * @returns a function that runs it and parses the answer.
   */
  reader<T>(sql: string): (...values: Value[]) => T | undefined {
    const statement = this.#guarded(() => this.#db.prepare(sql).raw())
    return (...values) => {
      const row = this.#guarded(() => statement.get(values)) as [string | number] | undefined
      return row && JSON.parse(String(row[0]))
    }
  }

  /**
   * Runs `work`, which must not wait for anything, wholly or not at all.
   * @param isDurable whether it outlives a power cut, for which the commit waits for the disk. What
   *   is not outlives the process, and a later commit that is takes it along.
   */
  transaction<T>(work: () => T, isDurable = true): T {
    if (!isDurable) this.exec('PRAGMA synchronous = NORMAL')
    try {
      this.exec('BEGIN IMMEDIATE')
      const result = work()
      this.exec('COMMIT')
      return result
    } catch (error) {
      // A full disk has rolled it back already. To ask a closed database aborts the process.
      if (this.#open && this.#db.inTransaction) this.exec('ROLLBACK')
      throw error
    } finally {
      if (!isDurable) this.exec('PRAGMA synchronous = FULL')
    }
  }

  /**
   * Moves what the write-ahead log has into the file, and empties it.
   * @returns false when that was not possible now; nothing is lost then.
   */
  emptyLog(): boolean {
    try {
      const row = this.#db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').raw().get([])
      const [isBusy] = row as [number]
      return isBusy === 0
    } catch {
      return false
    }
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    // libsql keeps the file open until its statements are collected, so SQLite's own checkpoint at
    // the last close may never come.
    this.emptyLog()
    this.#db.close()
  }

  #guarded<T>(call: () => T): T {
    // A statement would go on working after the close.
    if (!this.#open) throw new AppError('STORE_UNAVAILABLE', { message: 'The database is closed.' })
    try {
      return call()
    } catch (error) {
      throw translated(error)
    }
  }
}
