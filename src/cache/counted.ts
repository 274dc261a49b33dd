import type { Cache } from './cache.js'

/** The same cache, whose reads are counted by what they are for and whether they found it. */
export function countedCache<C extends Cache>(
  cache: C,
  count: (kind: string, result: 'hit' | 'miss') => void,
): C {
  return {
    ...cache,
    async get(key: string) {
      const value = await cache.get(key)
      // As in keys.ts: prefix, kind, and what it is of.
      count(key.split(':')[1] ?? '', value === undefined ? 'miss' : 'hit')
      return value
    },
  }
}
