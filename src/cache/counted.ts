import type { Cache } from './cache.js'

/** The same cache, whose reads are counted by what they are for and whether they found it. */
export function countedCache<C extends Cache>(
  cache: C,
  count: (kind: string, result: 'hit' | 'miss') => void,
): C {
  function counted<T>(key: string, read: Promise<T | undefined>): Promise<T | undefined> {
    return read.then((value) => {
      // As in keys.ts: prefix, kind, and what it is of.
      count(key.split(':', 2)[1] ?? '', value === undefined ? 'miss' : 'hit')
      return value
    })
  }
  return {
    ...cache,
    get: (key) => counted(key, cache.get(key)),
    getBytes: (key) => counted(key, cache.getBytes(key)),
  }
}
