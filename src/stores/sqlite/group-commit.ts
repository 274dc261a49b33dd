import type { Connection } from './connection.js'

interface Write {
  work: () => unknown
  resolve: (value: never) => void
  reject: (error: unknown) => void
}

/** What the disk is yet to have, with what it answers. */
type Committed = Pick<Write, 'resolve' | 'reject'> & { value: unknown }

/**
 * Every write of the store. Those that come together are one commit, and wait for the disk once; the
 * process goes on meanwhile. The first of them comes a turn of the loop before the others, so a
 * commit is two turns' writes.
 */
export class GroupCommit {
  #writes: Write[] = []
  #committed: Committed[] = []
  #syncing: Promise<void> | undefined

  constructor(private readonly connection: Pick<Connection, 'transaction' | 'sync'>) {}

  /**
   * Runs `work`, which must not wait for anything, wholly or not at all; others are not touched by
   * what it throws. It may be run again after it was undone with another's failure. Who reads sees
   * it as soon as it is committed.
   * @returns what it returned, once that is on the disk.
   * @throws what `work` throws, or the connection's `sync`: it may or may not be stored then.
   */
  write<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#writes.push({ work, resolve, reject }) === 1) {
        setImmediate(() => setImmediate(() => this.flush()))
      }
    })
  }

  /** Commits what waits for it now; resolves when the disk has it and every writer was told. */
  async flush(): Promise<void> {
    const writes = this.#writes
    this.#writes = []
    this.#commit(writes)
    if (this.#committed.length > 0) this.#syncing ??= this.#sync()
    await this.#syncing
  }

  #commit(writes: readonly Write[]): void {
    const [first] = writes
    if (!first) return
    try {
      const values = this.connection.transaction(() => writes.map(({ work }) => work()))
      for (const [n, { resolve, reject }] of writes.entries()) {
        this.#committed.push({ resolve, reject, value: values[n] })
      }
    } catch (error) {
      // Whose failure it was shows when each is committed alone.
      if (writes.length === 1) first.reject(error)
      else for (const write of writes) this.#commit([write])
    }
  }

  /** One at a time: what is committed meanwhile waits for the next, together. */
  async #sync(): Promise<void> {
    while (this.#committed.length > 0) {
      const committed = this.#committed
      this.#committed = []
      try {
        await this.connection.sync()
        for (const { resolve, value } of committed) resolve(value as never)
      } catch (error) {
        for (const { reject } of committed) reject(error)
      }
    }
    this.#syncing = undefined
  }
}
