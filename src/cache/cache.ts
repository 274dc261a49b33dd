/**
 * Data that may be lost: cached values, counters of rate limits, messages between servers. A
 * fault of the cache never fails a request: every method but `ping` resolves.
 */
export interface Cache {
  /** Rejects when the service behind it does not answer. */
  ping(): Promise<void>
  close(): Promise<void>

  get(key: string): Promise<string | undefined>
  /** As `get`, without decoding: a long text is sent as it is stored. */
  getBytes(key: string): Promise<Buffer | undefined>
  /** @returns whether the value is stored. */
  set(key: string, value: string | Buffer, ttlMs: number): Promise<boolean>
  /** @returns false where the key has a value already, which stays. */
  setIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean>
  /** A key that cannot be deleted now is deleted later, and reads as absent until then. */
  delete(key: string): Promise<void>

  /**
   * Counts events (one unless told; 0 only looks) in a fixed window that begins with the first.
   * `delete` ends the window.
   */
  hit(key: string, windowMs: number, events?: number): Promise<{ count: number; resetMs: number }>

  /**
   * Tells every server, this one included, once. A server that cannot be reached now is told when it
   * can be, within bounds.
   */
  publish(channel: string, message: string): Promise<void>
  /** Tells the servers that can be reached now; the message is worth nothing later. */
  publishLive(channel: string, message: string): Promise<void>
  /** `listener` must not throw. @returns what ends the subscription. */
  subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>>
  /**
   * Calls `listener` when messages may have been missed: about once a second while none is heard,
   * and once after. @returns what ends the calls.
   */
  onGap(listener: () => void): () => void
}

/** Reads of the cache by the kind of their keys. */
export type ReadCounts = Map<string, { hit: number; miss: number }>

/** The same cache, whose reads are counted in `counts`. */
export function countedCache(cache: Cache, counts: ReadCounts): Cache {
  function count(key: string, value: unknown): void {
    const start = key.indexOf(':') + 1
    const kind = key.slice(start, key.indexOf(':', start))
    const reads = counts.get(kind) ?? { hit: 0, miss: 0 }
    counts.set(kind, reads)
    reads[value === undefined ? 'miss' : 'hit'] += 1
  }
  return {
    ...cache,
    async get(key) {
      const value = await cache.get(key)
      count(key, value)
      return value
    },
    async getBytes(key) {
      const value = await cache.getBytes(key)
      count(key, value)
      return value
    },
  }
}
