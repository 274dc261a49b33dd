import type { Test } from 'tap'
import type { Cache } from '../../src/cache/cache.js'

interface Subject {
  /** A cache, and another one as a second server would have it, or the same. */
  open: (t: Test) => Promise<{ cache: Cache; other: Cache }>
  /** Lets `ms` pass for the cache. */
  pass: (ms: number) => Promise<void>
}

/** What every cache must do, whatever is behind it. */
export function cacheContract(t: Test, { open, pass }: Subject): void {
  t.test('keeps a value until it is deleted', async (t) => {
    const { cache, other } = await open(t)
    await cache.ping()
    t.equal(await cache.get('a'), undefined)
    await cache.set('a', 'é😀\n', 60_000)
    t.equal(await other.get('a'), 'é😀\n')
    await cache.set('a', '', 60_000)
    t.equal(await cache.get('a'), '')
    await other.delete('a')
    t.equal(await cache.get('a'), undefined)
    await cache.delete('a')
  })

  t.test('sets a value where there is none, for one of many at once', async (t) => {
    const { cache, other } = await open(t)
    const all = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? cache : other).setIfAbsent('a', `${i}`, 60_000),
      ),
    )
    t.equal(all.filter(Boolean).length, 1)
    t.equal(await other.get('a'), `${all.indexOf(true)}`)
    t.equal(await cache.set('a', 'b', 60_000), true)
    t.equal(await other.setIfAbsent('a', 'c', 60_000), false)
    t.equal(await cache.get('a'), 'b')
    await cache.setIfAbsent('short', 'x', 100)
    await pass(150)
    t.equal(await other.setIfAbsent('short', 'y', 60_000), true, 'its life is over')
  })

  t.test('keeps text and bytes alike', async (t) => {
    const { cache, other } = await open(t)
    const text = 'é😀\n'
    await cache.set('text', text, 60_000)
    await cache.set('bytes', Buffer.from(text), 60_000)
    for (const key of ['text', 'bytes']) {
      t.equal(await other.get(key), text, key)
      t.same(await other.getBytes(key), Buffer.from(text), key)
    }
    t.equal(await cache.getBytes('none'), undefined)
  })

  t.test('forgets a value when its time is over', async (t) => {
    const { cache } = await open(t)
    await cache.set('short', 'x', 100)
    await cache.set('long', 'y', 60_000)
    await pass(150)
    t.equal(await cache.get('short'), undefined)
    t.equal(await cache.get('long'), 'y')
  })

  t.test('counts in a window that begins with the first event', async (t) => {
    const { cache, other } = await open(t)
    const windowMs = 60_000
    t.match(await cache.hit('h', windowMs, 0), { count: 0, resetMs: windowMs })
    const first = await cache.hit('h', windowMs)
    t.equal(first.count, 1)
    t.ok(first.resetMs > windowMs / 2 && first.resetMs <= windowMs, String(first.resetMs))
    t.equal((await other.hit('h', windowMs)).count, 2)
    t.equal((await cache.hit('h', windowMs, 3)).count, 5)
    t.equal((await cache.hit('h', windowMs, 0)).count, 5, 'looking counts nothing')
    await cache.delete('h')
    t.equal((await cache.hit('h', windowMs)).count, 1, 'delete ends the window')
    await cache.hit('short', 200)
    await pass(250)
    t.equal((await cache.hit('short', 200)).count, 1, 'a new window')
  })

  t.test('loses no event of many at once', async (t) => {
    const { cache, other } = await open(t)
    const counts = await Promise.all(
      Array.from({ length: 100 }, (_, i) => (i % 2 ? cache : other).hit('many', 60_000)),
    )
    t.strictSame(
      counts.map(({ count }) => count).sort((a, b) => a - b),
      Array.from({ length: 100 }, (_, i) => i + 1),
    )
  })

  t.test('tells every listener of a channel once, in order, and no other', async (t) => {
    const { cache, other } = await open(t)
    const heard: string[] = []
    const elsewhere: string[] = []
    let resolve = () => {}
    const done = new Promise<void>((heard) => {
      resolve = heard
    })
    await other.subscribe('news', (message) => {
      elsewhere.push(message)
      if (message === '2') resolve()
    })
    const stop = await cache.subscribe('news', (message) => heard.push(message))
    await cache.subscribe('news', (message) => heard.push(`also ${message}`))
    await cache.subscribe('sport', () => t.fail('heard another channel'))
    await cache.publish('news', '1')
    await cache.publish('news', '2')
    await done
    t.strictSame(heard, ['1', 'also 1', '2', 'also 2'])
    t.strictSame(elsewhere, ['1', '2'])
    await stop()
    await cache.publish('news', '3')
    t.strictSame(heard.slice(4), ['also 3'])
  })

  t.test('tells also what is worth nothing later', async (t) => {
    const { cache, other } = await open(t)
    const heard: string[] = []
    let resolve = (_message: string) => {}
    const elsewhere = new Promise<string>((heard) => {
      resolve = heard
    })
    await other.subscribe('live', (message) => resolve(message))
    await cache.subscribe('live', (message) => heard.push(message))
    await cache.publishLive('live', 'now')
    t.strictSame(heard, ['now'])
    t.equal(await elsewhere, 'now')
  })
}
