import { LRUCache } from 'lru-cache'
import type { Cache } from './cache.js'
import { Counters } from './counters.js'
import { limitOf } from './keys.js'

interface MemoryCacheOptions {
  /** The most entries, of values and of each limit's counters. */
  maxEntries?: number
  /** The most bytes that keys and values may take together. */
  maxBytes?: number
  /** The clock, in milliseconds since 1970. */
  now?: () => number
}

/** What an entry costs beside its text, roughly. */
const entryOverheadBytes = 200

/** The cache of one process alone: bounded in entries and bytes, the least recently used goes first. */
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
    // A look at the clock costs less than the timer that would spare it.
    ttlResolution: 0,
  })
  /** By limit, so that keys which are cheap to make push out nothing of another limit. */
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
