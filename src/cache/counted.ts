import type { Cache } from './cache.js'

/** Reads of the cache by what they are for, as in keys.ts: prefix, kind, and what it is of. */
export type ReadCounts = Map<string, { hit: number; miss: number }>

/** The same cache, whose reads are counted in `counts`: plain numbers, as some requests are little more. */
export function countedCache<C extends Cache>(cache: C, counts: ReadCounts): C {
  function count(key: string, value: unknown): void {
    const start = key.indexOf(':') + 1
    const kind = key.slice(start, key.indexOf(':', start))
    let of = counts.get(kind)
    if (!of) {
      of = { hit: 0, miss: 0 }
      counts.set(kind, of)
    }
    of[value === undefined ? 'miss' : 'hit'] += 1
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
