/*
 * What the product may forget: caches, counters of rate limits, and news between servers. A fault
 * of the cache is never an error of a request: every method but `ping` resolves.
 */
export interface Cache {
  /** Rejects when the service behind it does not answer. */
  ping(): Promise<void>
  close(): Promise<void>

  get(key: string): Promise<string | undefined>
  /** The same value as it is sent: a long text costs more to encode than all else of an answer. */
  getBytes(key: string): Promise<Buffer | undefined>
  set(key: string, value: string | Buffer, ttlMs: number): Promise<void>
  delete(key: string): Promise<void>

  /**
   * Counts events (one unless told; 0 only looks) in a fixed window that begins with the first.
   * `delete` ends the window.
   */
  hit(key: string, windowMs: number, events?: number): Promise<{ count: number; resetMs: number }>

  /**
   * Tells every server, this one included. One that cannot be reached now is told when it can be,
   * within bounds; what is told again, then, is heard once.
   */
  publish(channel: string, message: string): Promise<void>
  /** Tells every server that can be reached now: for what is worth nothing later. */
  publishLive(channel: string, message: string): Promise<void>
  /** `listener` must not throw. @returns the way to stop hearing. */
  subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>>
  /**
   * Calls `listener` when messages may have been missed: about once a second while none is heard,
   * and once after. @returns the way to stop.
   */
  onGap(listener: () => void): () => void
}
