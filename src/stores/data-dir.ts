import { randomBytes } from 'node:crypto'
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import Libsql from 'libsql'

const held = new Set<string>()

/** Every file that this program keeps in its directory. */
const files = [
  ...['chat.db', 'chat.db-wal', 'chat.db-shm'],
  ...['lock.db', 'lock.db-journal', 'server.pid', 'jwt-secret'],
]

/**
 * Makes `dir` this process's alone, until `release` or the process's death, however it comes: the
 * lock is one that the kernel holds for the process, so a crash leaves nothing to clear away.
 * @throws Error that says what to do, when `dir` is in use or cannot be written.
 */
export function holdDataDir(dir: string): { release(): void } {
  makeDir(dir)
  const path = realpathSync(dir)
  const pidFile = join(path, 'server.pid')
  // The kernel's lock is the process's: it would let the same process in twice.
  if (held.has(path)) throw inUse(dir, pidFile)
  const lock = lockOf(dir, path)
  try {
    lock.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    const busy = error instanceof Libsql.SqliteError && error.code.startsWith('SQLITE_BUSY')
    throw busy ? inUse(dir, pidFile) : unusable(dir, error)
  }
  try {
    const startedAt = new Date(Date.now() - process.uptime() * 1000).toISOString()
    writeFileSync(pidFile, `${JSON.stringify({ pid: process.pid, startedAt })}\n`)
    for (const name of files) makePrivate(join(path, name))
  } catch (error) {
    lock.close()
    throw unusable(dir, error)
  }
  held.add(path)
  return {
    release() {
      if (!held.delete(path)) return
      rmSync(pidFile, { force: true })
      lock.exec('ROLLBACK')
      lock.close()
    },
  }
}

/**
 * The JWT secret kept in `dir`, made at its first use; of processes that start at once all get the
 * same.
 * @throws Error when `dir` cannot be written or what it keeps is no secret.
 */
export function keptSecret(dir: string): string {
  makeDir(dir)
  const file = join(dir, 'jwt-secret')
  const secret = readIfThere(file)?.trim() ?? makeSecret(dir, file)
  makePrivate(file)
  if (Buffer.byteLength(secret) < 32) {
    throw new Error(
      `${file} holds no secret of at least 32 bytes. Remove it and a new one is made (everybody ` +
        'must then log in again), or set JWT_SECRET.',
    )
  }
  return secret
}

/** The files in `dir` that others than this user may read or write. */
export function exposedFiles(dir: string): string[] {
  return files.filter((name) => {
    const mode = statSync(join(dir, name), { throwIfNoEntry: false })?.mode ?? 0
    return (mode & 0o077) !== 0
  })
}

/** Makes a file its user's alone, in a directory that may have been made with other rights. */
function makePrivate(file: string): void {
  try {
    chmodSync(file, 0o600)
  } catch (error) {
    // Where it is another user's, `exposedFiles` tells.
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'EPERM') throw error
  }
}

/** Makes an empty file that is its user's alone, unless it is there: SQLite would ask the umask. */
export function touchPrivate(file: string): void {
  closeSync(openSync(file, 'a', 0o600))
}

function makeSecret(dir: string, file: string): string {
  const own = `${file}.${process.pid}-${randomBytes(4).toString('hex')}`
  try {
    const descriptor = openSync(own, 'wx', 0o600)
    try {
      writeSync(descriptor, `${randomBytes(48).toString('base64url')}\n`)
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
    // A link is made whole or not at all, and never over another process's secret.
    linkSync(own, file)
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw unusable(dir, error)
  } finally {
    rmSync(own, { force: true })
  }
  return readFileSync(file, 'utf8').trim()
}

function makeDir(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    accessSync(dir, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw unusable(dir, error)
  }
}

function lockOf(dir: string, path: string): Libsql.Database {
  try {
    const file = join(path, 'lock.db')
    touchPrivate(file)
    return new Libsql(file, { timeout: 0 })
  } catch (error) {
    throw unusable(dir, error)
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
}

function inUse(dir: string, pidFile: string): Error {
  let holder = 'another process'
  try {
    const { pid, startedAt } = JSON.parse(readFileSync(pidFile, 'utf8'))
    holder = `process ${pid}, started ${startedAt}`
  } catch {
    // The other has the lock and has not yet written who it is.
  }
  return new Error(
    `The data directory ${dir} is in use by ${holder}. Stop that process, or set DATA_DIR to ` +
      'another directory for this one.',
  )
}

function unusable(dir: string, cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new Error(
    `The data directory ${dir} cannot be used: ${reason}. Make it a directory that this user may ` +
      'write, with room on its disk, or set DATA_DIR to another.',
    { cause },
  )
}
