import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Cache } from '../../src/cache/cache.js'
import { chatListKey } from '../../src/cache/keys.js'
import { createMemoryCache } from '../../src/cache/memory.js'
import { fetchOnce, forget, readThrough } from '../../src/cache/read-through.js'
import { newId } from '../../src/ids.js'
import { openRedisCache } from '../services/redis-cache.js'

const lasting = (text: string) => async () => ({ value: { text }, lasts: true })

/** The text of what is answered. */
const readText = async (...asked: Parameters<typeof readThrough>) => {
  const page: { text: string } = JSON.parse(String(await readThrough(...asked)))
  return page.text
}

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

/** A value that servers share, with a lock of `lockMs`. */
const sharedKey = (lockMs = 3_600_000) => {
  const key = `test:${newId()}`
  return { key, ttlMs: 60_000, lock: { key: `${key}:lock`, ttlMs: lockMs } }
}

t.test('answers that share a state are each kept under it', async (t) => {
  const cache = createMemoryCache()
  const userId = newId()
  for (const limit of [20, 50]) {
    t.equal(await readText(cache, chatListKey(userId, limit), lasting('first')), 'first')
  }
  for (const limit of [20, 50]) {
    t.equal(await readText(cache, chatListKey(userId, limit), lasting('second')), 'first')
  }
})

t.test(
  'an answer that may change by itself, or is longer than 256 KiB, is read anew',
  async (t) => {
    const cache = createMemoryCache()
    for (const answer of [
      { value: { text: 'first' }, lasts: false },
      { value: { text: 'first', more: 'x'.repeat(256 * 1024) }, lasts: true },
    ]) {
      const kept = chatListKey(newId(), 20)
      t.equal(await readText(cache, kept, async () => answer), 'first')
      t.equal(await readText(cache, kept, lasting('second')), 'second')
    }
  },
)

/** @param a @param b the caches of two servers. */
async function contract(t: Test, a: Cache, b: Cache) {
  await t.test('is read once, and by the other server not at all', async (t) => {
    const kept = chatListKey(newId(), 20)
    t.equal(await readText(a, kept, lasting('first')), 'first')
    t.equal(await readText(b, kept, lasting('second')), 'first')
    await forget(b, kept.state)
    t.equal(await readText(a, kept, lasting('second')), 'second')
    t.equal(await readText(b, kept, lasting('third')), 'second')
  })

  for (const before of ['nothing', 'something'] as const) {
    await t.test(`what was read before a change is not kept after it: ${before}`, async (t) => {
      const kept = chatListKey(newId(), 20)
      let stored = 'old'
      if (before === 'something') {
        await readText(a, kept, async () => ({ value: { text: stored }, lasts: true }))
        // Only the value's own life is over.
        await a.delete(kept.key)
      }
      const late = await readText(a, kept, async () => {
        const page = stored
        stored = 'new'
        await forget(b, kept.state)
        return { value: { text: page }, lasts: true }
      })
      t.equal(late, 'old')
      for (const cache of [a, b])
        t.equal(
          await readText(cache, kept, async () => ({ value: { text: stored }, lasts: true })),
          'new',
        )
    })

    await t.test(`nor when another has read the new one: ${before}`, async (t) => {
      const kept = chatListKey(newId(), 20)
      if (before === 'something') {
        await readText(a, kept, lasting('old'))
        await a.delete(kept.key)
      }
      await readText(a, kept, async () => {
        await forget(b, kept.state)
        await readText(b, kept, lasting('new'))
        return { value: { text: 'old' }, lasts: true }
      })
      t.equal(await readText(b, kept, lasting('new')), 'new')
    })
  }

  await t.test('who asks at once at both servers shares one fetch', async (t) => {
    const shared = sharedKey()
    let fetches = 0
    const fetch = async () => {
      fetches += 1
      await delay(10)
      return fetches
    }
    const ask = (cache: Cache) => fetchOnce(cache, shared, 60_000, fetch)
    const found = await Promise.all([a, b, a, b].map(ask))
    t.same(
      found.map(({ value }) => value),
      [1, 1, 1, 1],
    )
    t.equal((await ask(b)).value, 1)
    t.equal((await fetchOnce(b, shared, 0, fetch)).value, 2, 'asked for anew')
    t.match(await ask(a), { value: 2, at: Number })
  })

  await t.test('a fetch that fails is tried by the next, at whichever server', async (t) => {
    const shared = sharedKey()
    const failing = fetchOnce(a, shared, 60_000, () => Promise.reject(new Error('away')))
    const waiting = fetchOnce(b, shared, 60_000, async () => 'here')
    await t.rejects(failing, { message: 'away' })
    t.match(await waiting, { value: 'here' })
  })

  await t.test(
    'a server that died while it fetched is waited for no longer than its lock',
    async (t) => {
      const shared = sharedKey(300)
      await a.set(shared.lock.key, '1', 3_600_000)
      t.match(await fetchOnce(b, shared, 60_000, async () => 'mine'), { value: 'mine' })
    },
  )

  await t.test('a value that is kept costs two reads at once and nothing else', async (t) => {
    const kept = chatListKey(newId(), 20)
    await readText(a, kept, lasting('kept'))
    const asked: string[] = []
    async function asks(key: string) {
      asked.push(key)
      // Answers come only when both were asked.
      await Promise.resolve()
      t.equal(asked.length, 2)
    }
    const asking: Cache = {
      ...a,
      async get(key) {
        await asks(key)
        return a.get(key)
      },
      async getBytes(key) {
        await asks(key)
        return a.getBytes(key)
      },
      async set(key) {
        asked.push(key)
        return true
      },
    }
    t.equal(await readText(asking, kept, lasting('other')), 'kept')
    t.equal(asked.length, 2)
  })
}
