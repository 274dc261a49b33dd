import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import observability from '../../plugins/observability.js'
import redisPlugin from '../../plugins/redis.js'
import { parseConfig } from '../../src/config.js'
import { eventually } from '../services/eventually.js'
import { startTcpProxy } from '../services/tcp-proxy.js'
import { cacheContract } from './contract.js'

const url = process.env.REDIS_URL

t.test('a Redis that is away at the start is a clear error', async (t) => {
  const silent = createServer().listen(0, '127.0.0.1')
  t.teardown(() => silent.close())
  await once(silent, 'listening')
  const port = (silent.address() as AddressInfo).port
  for (const address of [`127.0.0.1:${port}`, '127.0.0.1:1']) {
    const app = build(`redis://user:canary-password@${address}/0`, 600)
    const error: unknown = await app.ready().then(
      () => undefined,
      (cause: unknown) => cause,
    )
    t.ok(error instanceof Error, 'refused')
    const { message } = error as Error
    t.match(message, /REDIS_URL: Redis at redis:\/\/127\.0\.0\.1/)
    t.notMatch(message, /canary/)
    await app.close()
  }
})

t.test('a Redis that is too old is named, with the version wanted', async (t) => {
  const answers: Record<string, string> = {
    ping: '+PONG\r\n',
    info: bulk('redis_version:5.0.14\r\nloading:0\r\n'),
  }
  const old = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    // Each command begins with its number of words, whose first is `$4\r\nINFO`, say.
    socket.on('data', (data) => {
      for (const [, word = ''] of String(data).matchAll(/\*\d+\r\n\$\d+\r\n(\w+)/g)) {
        socket.write(answers[word.toLowerCase()] ?? '+OK\r\n')
      }
    })
  }).listen(0, '127.0.0.1')
  t.teardown(() => old.close())
  await once(old, 'listening')
  const app = build(`redis://127.0.0.1:${(old.address() as AddressInfo).port}`, 3000)
  t.teardown(() => app.close())
  await t.rejects(async () => app.ready(), {
    message: /REDIS_URL: .* version 5\.0\.14, and 6\.2 or later is wanted/,
  })
})

if (!url) {
  t.test('Redis', { skip: 'REDIS_URL is not set' }, async () => {})
} else {
  let names = 0
  const contract = (t: Test, urls: string) =>
    cacheContract(t, {
      open: async (t) => {
        const caches = [await openCache(t, urls), await openCache(t, urls)] as const
        // Each test has keys and channels of its own.
        const prefix = `test:${process.pid}:${Date.now()}:${++names}:`
        const [cache, other] = caches.map((inner) => ({
          ping: () => inner.ping(),
          close: () => inner.close(),
          get: (key: string) => inner.get(prefix + key),
          getBytes: (key: string) => inner.getBytes(prefix + key),
          set: (key: string, value: string | Buffer, ttlMs: number) =>
            inner.set(prefix + key, value, ttlMs),
          setIfAbsent: (key: string, value: string, ttlMs: number) =>
            inner.setIfAbsent(prefix + key, value, ttlMs),
          delete: (key: string) => inner.delete(prefix + key),
          hit: (key: string, windowMs: number, events?: number) =>
            inner.hit(prefix + key, windowMs, events),
          publish: (channel: string, message: string) => inner.publish(prefix + channel, message),
          publishLive: (channel: string, message: string) =>
            inner.publishLive(prefix + channel, message),
          subscribe: (channel: string, listener: (message: string) => void) =>
            inner.subscribe(prefix + channel, listener),
        })) as [(typeof caches)[0], (typeof caches)[0]]
        return { cache, other }
      },
      // Redis has a clock of its own.
      pass: (ms) => delay(ms),
    })
  t.test('one Redis', async (t) => contract(t, url))
  const cluster = process.env.REDIS_CLUSTER_URL
  if (cluster) t.test('a cluster', async (t) => contract(t, cluster))
  else t.test('a cluster', { skip: 'REDIS_CLUSTER_URL is not set' }, async () => {})

  for (const fault of ['silent', 'cut'] as const) {
    t.test(`when Redis is ${fault}, operations resolve, and its own listeners hear`, async (t) => {
      const proxy = await startTcpProxy(t, url)
      const cache = await openCache(t, proxy.url)
      const key = `test:${process.pid}:${Date.now()}`
      const heard: string[] = []
      await cache.subscribe(key, (message) => heard.push(message))
      await cache.set(key, 'kept', 60_000)
      t.equal(await cache.get(key), 'kept')
      await cache.set(`${key}:stale`, 'x', 60_000)

      proxy.fail(fault)
      t.equal(await cache.get(key), undefined)
      t.equal(await cache.set(key, 'lost', 60_000), false)
      t.equal(await cache.setIfAbsent(key, 'lost', 60_000), true)
      const { count } = await cache.hit(`${key}:hits`, 60_000)
      t.equal(count, 1)
      t.equal((await cache.hit(`${key}:hits`, 60_000)).count, 2, 'counted by the process')
      await cache.publish(key, 'news')
      t.strictSame(heard, ['news'])
      await t.rejects(cache.ping())
      await cache.delete(`${key}:stale`)

      proxy.repair()
      await eventually('it comes to be', async () => (await cache.get(key)) === 'kept')
      t.equal(await cache.get(`${key}:stale`), undefined, 'deleted meanwhile')
      const other = await openCache(t, url)
      await eventually('it comes to be', async () => {
        await other.publish(key, 'again')
        return heard.includes('again')
      })
    })
  }

  for (const fault of ['silent', 'cut'] as const) {
    for (const [who, isCut] of [
      ['who tells', [true, false]],
      ['who hears', [false, true]],
      ['both', [true, true]],
    ] as const) {
      t.test(`news told while Redis is ${fault} to ${who} is heard once, in order`, async (t) => {
        const proxy = await startTcpProxy(t, url)
        const [teller, hearer] = await Promise.all(
          isCut.map((cut) => openCache(t, cut ? proxy.url : url)),
        )
        const channel = `test:${process.pid}:${Date.now()}`
        const heard: string[] = []
        await hearer?.subscribe(channel, (message) => heard.push(message))
        // Every server hears something from its start on.
        await teller?.subscribe(`${channel}:other`, () => {})
        const tell = async (...news: string[]) => {
          for (const one of news) await teller?.publish(channel, one)
        }
        await tell('before')
        await eventually('it comes to be', async () => heard.length > 0)
        proxy.fail(fault)
        await tell('1', '2')
        if (isCut[0]) await teller?.publishLive(channel, 'never')
        await tell('3')
        proxy.repair()
        await tell('after')
        await eventually('it comes to be', async () => heard.includes('after'))
        t.strictSame(heard, ['before', '1', '2', '3', 'after'])
      })
    }
  }

  t.test('an answer that came while this process was busy is not late', async (t) => {
    const cache = await openCache(t, url)
    const key = `test:${process.pid}:busy`
    await cache.set(key, 'kept', 60_000)
    const reading = cache.get(key)
    const until = performance.now() + 600
    while (performance.now() < until);
    t.equal(await reading, 'kept')
  })

  t.test('closing does not wait for a silent Redis', async (t) => {
    const proxy = await startTcpProxy(t, url)
    const app = build(proxy.url, 120_000)
    await app.ready()
    proxy.fail('silent')
    // It would never end.
    await app.close()
  })
}

function build(redisUrl: string, startTimeoutMs: number): FastifyInstance {
  const app = Fastify()
  app.decorate(
    'config',
    parseConfig({ REDIS_URL: redisUrl, START_TIMEOUT_MS: String(startTimeoutMs) }),
  )
  return app.register(observability).register(redisPlugin) as unknown as FastifyInstance
}

async function openCache(t: Test, redisUrl: string) {
  const app = build(redisUrl, 120_000)
  await app.ready()
  t.teardown(() => app.close())
  return app.cache
}

const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`
