import type { Connection } from './connection.js'

interface Write {
  work: () => unknown
  resolve: (value: never) => void
  reject: (error: unknown) => void
}

/**
 * Writes that come together are committed together. A commit waits for the disk, and so does the
 * whole process: messages sent at once wait once. The first of them comes a turn of the loop before
 * the others, so a commit is two turns' writes.
 */
export class GroupCommit {
  #writes: Write[] = []

  constructor(private readonly connection: Connection) {}

  /**
   * Runs `work`, which must not wait for anything, wholly or not at all; others are not touched by
   * what it throws. It may be run again after it was undone with another's failure.
   * @returns what it returned, once that is on the disk.
   */
  write<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#writes.push({ work, resolve, reject }) === 1) {
        setImmediate(() => setImmediate(() => this.flush()))
      }
    })
  }

  /** Commits what waits for it now. */
  flush(): void {
    const writes = this.#writes
    this.#writes = []
    this.#commit(writes)
  }

  #commit(writes: readonly Write[]): void {
    const [first] = writes
    if (!first) return
    try {
      const values = this.connection.transaction(() => writes.map(({ work }) => work() as never))
      for (const [n, { resolve }] of writes.entries()) resolve(values[n] as never)
    } catch (error) {
      // Whose failure it was shows when each is committed alone.
      if (writes.length === 1) first.reject(error)
      else for (const write of writes) this.#commit([write])
    }
  }
}
