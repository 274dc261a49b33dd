import { LRUCache } from 'lru-cache'
import type { Cache } from './cache.js'
import { limitOf } from './keys.js'

interface MemoryCacheOptions {
  /** The most entries, of values and of each limit's counters. */
  maxEntries?: number
  /** The most bytes that keys and values may take together. */
  maxBytes?: number
  /** The clock, in milliseconds since 1970. */
  now?: () => number
}

/** Roughly what an entry costs besides its text. */
const entryOverheadBytes = 200

/** The cache of one process: bounded in entries and bytes; the least recently used goes first. */
export function createMemoryCache(options: MemoryCacheOptions = {}): Cache {
  const { maxEntries = 50_000, maxBytes = 64 * 1024 * 1024, now = Date.now } = options
  const perf = { now }
  const values = new LRUCache<string, string | Buffer>({
    max: maxEntries,
    maxSize: maxBytes,
    // One value must not push out all others.
    maxEntrySize: Math.ceil(maxBytes / 8),
    sizeCalculation: (value, key) =>
      (typeof value === 'string' ? 2 : 1) * value.length + 2 * key.length + entryOverheadBytes,
    perf,
    // Reading the clock is cheaper than the cache's timer.
    ttlResolution: 0,
  })
  /** By limit: keys that are cheap to make push out nothing of another limit. */
  const counters = new Map<string, Counters>()
  const channels = new Map<string, Set<(message: string) => void>>()

  function countersOf(key: string): Counters {
    const limit = limitOf(key)
    const known = counters.get(limit) ?? new Counters(maxEntries, now)
    counters.set(limit, known)
    return known
  }

  async function publish(channel: string, message: string): Promise<void> {
    for (const listener of channels.get(channel) ?? []) listener(message)
  }

  return {
    async ping() {},

    async close() {
      values.clear()
      counters.clear()
      channels.clear()
    },

    async get(key) {
      return values.get(key)?.toString()
    },

    async getBytes(key) {
      const value = values.get(key)
      return typeof value === 'string' ? Buffer.from(value) : value
    },

    async set(key, value, ttlMs) {
      values.set(key, value, { ttl: ttlMs })
      return values.has(key)
    },

    async setIfAbsent(key, value, ttlMs) {
      if (values.has(key)) return false
      values.set(key, value, { ttl: ttlMs })
      return true
    },

    async delete(key) {
      values.delete(key)
      countersOf(key).delete(key)
    },

    async hit(key, windowMs, events = 1) {
      return countersOf(key).hit(key, windowMs, events)
    },

    publish,
    publishLive: publish,

    // Nothing is ever missed in one process.
    onGap: () => () => {},

    async subscribe(channel, listener) {
      const listeners = channels.get(channel) ?? new Set()
      channels.set(channel, listeners.add(listener))
      return async () => {
        listeners.delete(listener)
        if (listeners.size === 0 && channels.get(channel) === listeners) channels.delete(channel)
      }
    },
  }
}

interface Window {
  count: number
  endsAt: number
}

/** Making room forgets this part of all windows, so that it is rare. */
const forgottenPart = 0.1

/**
 * Counts events by key in fixed windows, at most `max` at once. To make room, windows that are over
 * go first, then those with the lowest counts: a flood of other keys ends no lockout.
 */
class Counters {
  readonly #windows = new Map<string, Window>()

  constructor(
    private readonly max: number,
    private readonly now: () => number,
  ) {}

  hit(key: string, windowMs: number, events: number): { count: number; resetMs: number } {
    const time = this.now()
    const known = this.#windows.get(key)
    const window = known && known.endsAt > time ? known : { count: 0, endsAt: time + windowMs }
    window.count += events
    if (window !== known && events > 0) {
      if (this.#windows.size >= this.max) this.#makeRoom(time)
      this.#windows.set(key, window)
    }
    return { count: window.count, resetMs: window.endsAt - time }
  }

  delete(key: string): void {
    this.#windows.delete(key)
  }

  #makeRoom(time: number): void {
    for (const [key, { endsAt }] of this.#windows) {
      if (endsAt <= time) this.#windows.delete(key)
    }
    const most = Math.floor(this.max * (1 - forgottenPart))
    if (this.#windows.size <= most) return
    // Of equal counts the oldest, since sorting keeps their order.
    const lowestFirst = [...this.#windows].sort(([, a], [, b]) => a.count - b.count)
    for (const [key] of lowestFirst.slice(0, this.#windows.size - most)) this.#windows.delete(key)
  }
}
