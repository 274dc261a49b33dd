import t from 'tap'
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
