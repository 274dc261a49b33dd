import type { Connection } from './connection.js'

interface Write {
  work: () => unknown
  resolve: (value: never) => void
  reject: (error: unknown) => void
}

/**
 * Writes that come together are committed together. A commit waits for the disk, and so does the
 * whole process: what one turn of the loop brings, such as fifty messages sent at once, waits once.
 */
export class GroupCommit {
  #writes: Write[] = []

  constructor(private readonly connection: Connection) {}

  /**
   * Runs `work`, which must not wait for anything, wholly or not at all; others are not touched by
   * what it throws.
   * @returns what it returned, once that is on the disk.
   */
  write<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#writes.push({ work, resolve, reject }) === 1) setImmediate(() => this.flush())
    })
  }

  /** Commits what waits for it now. */
  flush(): void {
    const writes = this.#writes
    if (writes.length === 0) return
    this.#writes = []
    try {
      const settled = this.connection.transaction(() => writes.map((write) => this.#run(write)))
      for (const settle of settled) settle()
    } catch (error) {
      for (const { reject } of writes) reject(error)
    }
  }

  /** @returns what tells its caller how it went, once it is committed. */
  #run({ work, resolve, reject }: Write): () => void {
    try {
      const value = this.connection.part(work) as never
      return () => resolve(value)
    } catch (error) {
      // With the whole transaction those before it are undone.
      if (!this.connection.inTransaction) throw error
      return () => reject(error)
    }
  }
}
