import { EventEmitter, once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { sessionKey } from '../../src/cache/keys.js'
import { api, embedded, outsideServices, register, startApp } from '../services/app.js'
import { eventually } from '../services/eventually.js'
import { startTcpProxy } from '../services/tcp-proxy.js'

const { REDIS_URL, MONGODB_URI } = outsideServices(`session-cache-${Date.now()}`)
const needsBoth = { skip: REDIS_URL && MONGODB_URI ? false : 'MONGODB_URI or REDIS_URL is not set' }
const lifeMs = 600_000

type App = Awaited<ReturnType<typeof startApp>>['app']

/** The calls to a server's store from now on, by name; those that it makes by itself left out. */
function recordCalls({ store }: App): string[] {
  const calls: string[] = []
  for (const [name, method] of Object.entries(store)) {
    if (typeof method !== 'function' || /Lapsed|Lease|Expired|Deletions/.test(name)) continue
    Object.assign(store, {
      [name]: (...args: unknown[]) => {
        calls.push(name)
        return method.apply(store, args)
      },
    })
  }
  return calls
}

/** Asks again and again until a server looks for the session in the cache, as it does each second. */
async function askUntilLooked({ cache }: App, key: string, ask: () => Promise<unknown>) {
  const { get } = cache
  let looked = false
  cache.get = (name) => {
    looked ||= name === key
    return get(name)
  }
  await eventually('the cache is asked for the session', async () => {
    await ask()
    return looked
  })
  cache.get = get
}

/** Two servers over one store and one Redis, which the second reaches by a proxy; a user of both. */
async function startTwo(t: Test) {
  const DATA_DIR = await mkdtemp(join(tmpdir(), 'chat-sessions-'))
  t.teardown(() => rm(DATA_DIR, { recursive: true, force: true }))
  const settings = { DATA_DIR, JWT_EXPIRES_IN: `${lifeMs / 1000}s` }
  const proxy = await startTcpProxy(t, REDIS_URL ?? '')
  const [a, b] = [
    await startApp(t, settings),
    await startApp(t, { ...settings, REDIS_URL: proxy.url }),
  ]
  const redis = new Redis(REDIS_URL ?? '')
  t.teardown(() => redis.disconnect())
  const { token } = await register(a.url)
  const { sessionId } = await a.app.sessions.authenticate(token)
  const get = (server: typeof a) => api(server.url, token)('GET', '/api/ai/chats')
  const logout = () => api(a.url, token)('POST', '/api/auth/logout')
  const other = () => startApp(t, settings)
  return { a, b, proxy, redis, get, logout, other, key: sessionKey(sessionId).key }
}

t.test(
  'no server reads the store while the session and the page are cached',
  needsBoth,
  async (t) => {
    const { a, b, get, key } = await startTwo(t)
    await get(a)
    const calls = [a, b].map(({ app }) => recordCalls(app))
    for (const server of [a, b, a]) {
      await askUntilLooked(server.app, key, async () => {
        t.equal((await get(server)).status, 200)
      })
    }
    t.same(calls, [[], []])
  },
)

t.test(
  'a logout overwrites the copy by a tombstone that outlives the token',
  needsBoth,
  async (t) => {
    const { a, b, redis, key, get, logout, other } = await startTwo(t)
    t.equal((await get(b)).status, 200)
    const calls = recordCalls(b.app)
    t.equal((await logout()).status, 204)
    await eventually('the other server refuses it', async () => (await get(b)).status === 401)
    t.equal((await get(a)).status, 401)
    t.equal(await redis.get(key), 'LOGGED_OUT')
    const ms = await redis.pttl(key)
    t.ok(ms > lifeMs, `${ms} ms are left`)
    const late = await other()
    calls.push(...recordCalls(late.app))
    t.equal((await get(late)).status, 401)
    t.same(calls, [], 'nobody asked the store')
  },
)

t.test('a logout wins over a copy that another server is filling', needsBoth, async (t) => {
  const { b, redis, key, get, logout } = await startTwo(t)
  await redis.del(key)
  const { store } = b.app
  const { findSession } = store
  const steps = new EventEmitter()
  const [asked, ended] = [once(steps, 'asked'), once(steps, 'ended')]
  store.findSession = async (id) => {
    const found = await findSession(id)
    steps.emit('asked')
    await ended
    return found
  }
  const answer = get(b)
  await asked
  t.equal((await logout()).status, 204)
  steps.emit('ended')
  t.equal((await answer).status, 401)
  t.equal(await redis.get(key), 'LOGGED_OUT')
})

for (const fault of ['cut', 'silent'] as const) {
  t.test(`a server to which Redis is ${fault} finds out by the store`, needsBoth, async (t) => {
    const { b, proxy, get, logout } = await startTwo(t)
    t.equal((await get(b)).status, 200)
    proxy.fail(fault)
    t.equal((await logout()).status, 204)
    await eventually('it is refused', async () => (await get(b)).status === 401)
  })
}

for (const [cache, settings] of [
  ['memory', { REDIS_URL: embedded.REDIS_URL }],
  ['Redis', {}],
] as const) {
  const isThere = MONGODB_URI !== undefined && (cache === 'memory' || REDIS_URL !== undefined)
  const skip = isThere ? false : 'MONGODB_URI or REDIS_URL is not set'
  t.test(`without MongoDB a session and a page in ${cache} still answer`, { skip }, async (t) => {
    const proxy = await startTcpProxy(t, MONGODB_URI ?? '')
    const { app, url } = await startApp(t, { ...settings, MONGODB_URI: proxy.url })
    const { token } = await register(url)
    const call = api(url, token)
    const { sessionId } = await app.sessions.authenticate(token)
    await call('POST', '/api/ai/chats', { title: 'kept' })
    const before = await call('GET', '/api/ai/chats')
    proxy.fail('cut')
    t.equal((await call('GET', '/api/auth/profile')).status, 503)
    await askUntilLooked(app, sessionKey(sessionId).key, async () => {
      t.match(await call('GET', '/api/ai/chats'), { status: 200, body: before.body })
    })
  })
}
