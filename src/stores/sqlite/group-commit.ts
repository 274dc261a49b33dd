import { setTimeout as delay } from 'node:timers/promises'
import { type Connection, isLocked } from './connection.js'

interface Write {
  work: () => unknown
  isDurable: boolean
  resolve: (value: never) => void
  reject: (error: unknown) => void
  /** Until when it waits for another process's lock, by the clock of `performance.now`. */
  until: number
}

/** How long a write waits for another process that holds the lock, such as a backup. */
const lockWaitMs = 2000
const lockRetryMs = 25

/**
 * Commits the writes that come in two turns of the loop together: a commit waits for the disk, and
 * with it the whole process. While another process holds the write lock all of them wait together,
 * by a timer: a wait inside SQLite would stop the loop.
 */
export class GroupCommit {
  #writes: Write[] = []

  constructor(private readonly connection: Connection) {}

  /**
   * Runs `work`, which must not wait for anything, wholly or not at all; others are not touched by
   * what it throws. It may be run again after it was undone with another's failure.
   * @param isDurable whether it outlives a power cut.
   * @returns what it returned, once that is on the disk, or in the system's cache of it.
   * @throws AppError STORE_UNAVAILABLE when another process does not give the lock back in time.
   */
  write<T>(work: () => T, isDurable = true): Promise<T> {
    return new Promise((resolve, reject) => {
      const until = performance.now() + lockWaitMs
      if (this.#writes.push({ work, isDurable, resolve, reject, until }) === 1) {
        setImmediate(() => setImmediate(() => this.#flush()))
      }
    })
  }

  /** Commits what still waits. */
  async close(): Promise<void> {
    this.#flush()
    while (this.#writes.length > 0) await delay(lockRetryMs)
  }

  #flush(): void {
    const writes = this.#writes
    this.#writes = []
    this.#commit(writes)
    if (this.#writes.length > 0) setTimeout(() => this.#flush(), lockRetryMs)
  }

  #commit(writes: readonly Write[]): void {
    const [first] = writes
    if (!first) return
    try {
      const values = this.connection.transaction(
        () => writes.map(({ work }) => work() as never),
        writes.some(({ isDurable }) => isDurable),
      )
      for (const [n, { resolve }] of writes.entries()) resolve(values[n] as never)
    } catch (error) {
      if (isLocked(error)) this.#waitForLock(writes, error)
      else if (writes.length === 1) first.reject(error)
      // Commit one by one to find the write that fails.
      else for (const write of writes) this.#commit([write])
    }
  }

  #waitForLock(writes: readonly Write[], error: unknown): void {
    const now = performance.now()
    for (const write of writes) {
      if (write.until > now) this.#writes.push(write)
      else write.reject(error)
    }
  }
}
