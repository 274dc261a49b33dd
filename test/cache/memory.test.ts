import t from 'tap'
import { limitKey } from '../../src/cache/keys.js'
import { createMemoryCache } from '../../src/cache/memory.js'
import { cacheContract } from './contract.js'

let time = 1_700_000_000_000
const now = () => time
const pass = async (ms: number) => {
  time += ms
}

cacheContract(t, {
  open: async (t) => {
    const cache = createMemoryCache({ now })
    t.teardown(() => cache.close())
    return { cache, other: cache }
  },
  pass,
})

t.test('drops the least recently used beyond its number of entries', async (t) => {
  const cache = createMemoryCache({ maxEntries: 3 })
  for (const key of ['a', 'b', 'c']) await cache.set(key, key, 60_000)
  await cache.get('a')
  await cache.set('d', 'd', 60_000)
  t.strictSame(await Promise.all(['a', 'b', 'c', 'd'].map((key) => cache.get(key))), [
    'a',
    undefined,
    'c',
    'd',
  ])
})

t.test('holds no more bytes than it may', async (t) => {
  const cache = createMemoryCache({ maxBytes: 80_000 })
  for (let i = 0; i < 100; i++) await cache.set(`k${i}`, 'x'.repeat(1000), 60_000)
  const kept = (
    await Promise.all(Array.from({ length: 100 }, (_, i) => cache.get(`k${i}`)))
  ).filter((value) => value !== undefined)
  t.ok(kept.length > 20 && kept.length < 40, `${kept.length} kept`)
  await cache.set('huge', 'x'.repeat(50_000), 60_000)
  t.equal(await cache.get('huge'), undefined, 'one value cannot push out all others')
})

t.test('counters of other keys end no lockout', async (t) => {
  const cache = createMemoryCache({ maxEntries: 1000 })
  const lockout = limitKey('login', 'locked')
  const waits = limitKey('login-wait', 'once')
  await cache.hit(lockout, 300_000, 10)
  await cache.hit(waits, 300_000)
  for (let n = 0; n < 20_000; n++) {
    await cache.hit(limitKey('credentials', `${n}`), 60_000)
    await cache.hit(limitKey('login', `${n}`), 300_000)
  }
  t.equal((await cache.hit(lockout, 300_000, 0)).count, 10, 'nor those of its own limit')
  t.equal((await cache.hit(waits, 300_000, 0)).count, 1, 'another limit’s keys do not count')
})

t.test('counters are bounded, and those whose window is over go first', async (t) => {
  let clock = 0
  const cache = createMemoryCache({ maxEntries: 100, now: () => clock })
  for (let n = 0; n < 50; n++) await cache.hit(`over-${n}`, 1000, 99)
  clock = 2000
  for (let n = 0; n < 75; n++) await cache.hit(`new-${n}`, 60_000)
  const counts = async (name: string, size: number) =>
    (
      await Promise.all(
        Array.from({ length: size }, async (_, n) => (await cache.hit(`${name}-${n}`, 1, 0)).count),
      )
    ).filter((count) => count > 0).length
  t.equal(await counts('new', 75), 75)
  for (let n = 75; n < 1000; n++) await cache.hit(`new-${n}`, 60_000)
  const kept = await counts('new', 1000)
  t.ok(kept >= 90 && kept <= 100, `${kept} are kept`)
})
