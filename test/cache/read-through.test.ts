import t, { type Test } from 'tap'
import type { Cache } from '../../src/cache/cache.js'
import { chatListKey } from '../../src/cache/keys.js'
import { createMemoryCache } from '../../src/cache/memory.js'
import { forget, readThrough } from '../../src/cache/read-through.js'
import { newId } from '../../src/ids.js'
import { openRedisCache } from '../services/redis-cache.js'

const { REDIS_URL, REDIS_CLUSTER_URL } = process.env

t.test('the process’s memory', async (t) => {
  const cache = createMemoryCache()
  await contract(t, cache, cache)
})
for (const [name, url] of Object.entries({ REDIS_URL, REDIS_CLUSTER_URL })) {
  if (url) {
    t.test(`two servers at ${name}`, async (t) => {
      await contract(t, await openRedisCache(t, url), await openRedisCache(t, url))
    })
  } else t.test(name, { skip: `${name} is not set` }, async () => {})
}

/** @param a @param b the caches of two servers. */
async function contract(t: Test, a: Cache, b: Cache) {
  await t.test('is read once, and by the other server not at all', async (t) => {
    const kept = chatListKey(newId())
    t.equal(await readThrough(a, kept, async () => 'first'), 'first')
    t.equal(await readThrough(b, kept, async () => 'second'), 'first')
    await forget(b, kept)
    t.equal(await readThrough(a, kept, async () => 'second'), 'second')
    t.equal(await readThrough(b, kept, async () => 'third'), 'second')
  })

  for (const before of ['nothing', 'something'] as const) {
    await t.test(`what was read before a change is not kept after it: ${before}`, async (t) => {
      const kept = chatListKey(newId())
      let stored = 'old'
      if (before === 'something') {
        await readThrough(a, kept, async () => stored)
        // Only the value's own life is over.
        await a.delete(kept.key)
      }
      const late = await readThrough(a, kept, async () => {
        const page = stored
        stored = 'new'
        await forget(b, kept)
        return page
      })
      t.equal(late, 'old')
      for (const cache of [a, b]) t.equal(await readThrough(cache, kept, async () => stored), 'new')
    })

    await t.test(`nor when another has read the new one: ${before}`, async (t) => {
      const kept = chatListKey(newId())
      if (before === 'something') {
        await readThrough(a, kept, async () => 'old')
        await a.delete(kept.key)
      }
      await readThrough(a, kept, async () => {
        await forget(b, kept)
        await readThrough(b, kept, async () => 'new')
        return 'old'
      })
      t.equal(await readThrough(b, kept, async () => 'new'), 'new')
    })
  }

  await t.test('a value that is kept costs two reads at once and nothing else', async (t) => {
    const kept = chatListKey(newId())
    await readThrough(a, kept, async () => 'kept')
    const asked: string[] = []
    const asking: Cache = {
      ...a,
      async get(key) {
        asked.push(key)
        // Answers come only when both were asked.
        await Promise.resolve()
        t.equal(asked.length, 2)
        return a.get(key)
      },
      async set(key) {
        asked.push(key)
      },
    }
    t.equal(await readThrough(asking, kept, async () => 'other'), 'kept')
    t.equal(asked.length, 2)
  })
}
