import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { Chat } from '../../schemas/chats.js'
import { chatChannel } from '../../src/cache/keys.js'
import { AppError } from '../../src/errors.js'
import { api, outsideServices, register, startApp } from '../services/app.js'
import { ask, connect, hear } from '../services/client.js'
import { eventually } from '../services/eventually.js'
import { type Fault, startTcpProxy } from '../services/tcp-proxy.js'

const redisUrl = outsideServices('session-news').REDIS_URL

/** Two servers as one; what the second says to Redis goes through a proxy that can fail. */
async function startTwo(t: Test, url: string) {
  const DATA_DIR = await mkdtemp(join(tmpdir(), 'chat-news-'))
  t.teardown(() => rm(DATA_DIR, { recursive: true, force: true }))
  const proxy = await startTcpProxy(t, url)
  const a = await startApp(t, { DATA_DIR })
  const b = await startApp(t, { DATA_DIR, REDIS_URL: proxy.url })
  const user = await register(a.url)
  const { body: chat } = await api(a.url, user.token)<Chat>('POST', '/api/ai/chats', {})
  const socket = await connect(t, b.url, user.token)
  return { a, b, proxy, user, chatId: chat.id, socket }
}

if (!redisUrl || !process.env.MONGODB_URI) {
  t.test(
    'sessions of several servers',
    { skip: 'MONGODB_URI or REDIS_URL is not set' },
    async () => {},
  )
} else {
  t.test('who logs out at one server is told so by the socket of another', async (t) => {
    const { a, user, socket } = await startTwo(t, redisUrl)
    const ended = hear(socket, 'session-ended')
    await api(a.url, user.token)('POST', '/api/auth/logout')
    t.same(await ended, [{ code: 'LOGGED_OUT' }])
  })

  t.test('a logout whose answer is lost is told at the other server', async (t) => {
    const { a, user, socket } = await startTwo(t, redisUrl)
    const ended = hear(socket, 'session-ended')
    const { store } = a.app
    const { deleteSession } = store
    store.deleteSession = async (id) => {
      store.deleteSession = deleteSession
      await deleteSession(id)
      throw new AppError('STORE_UNAVAILABLE')
    }
    t.equal((await api(a.url, user.token)('POST', '/api/auth/logout')).status, 503)
    t.same(await ended, [{ code: 'LOGGED_OUT' }])
  })

  t.test('a server without Redis finds out by itself that a session has ended', async (t) => {
    const { a, user, proxy, socket } = await startTwo(t, redisUrl)
    proxy.fail('cut')
    const ended = hear(socket, 'session-ended')
    await api(a.url, user.token)('POST', '/api/auth/logout-everywhere')
    t.match(await ended, [{ code: 'LOGGED_OUT' }])
    await eventually('the socket is gone', () => !socket.connected)
  })

  for (const fault of ['silent', 'cut'] as const satisfies readonly Fault[]) {
    t.test(`no event of an ended session is taken while Redis is ${fault}`, async (t) => {
      const { a, b, user, proxy, socket, chatId } = await startTwo(t, redisUrl)
      await ask(socket, 'join-chat', { chatId })
      proxy.fail(fault)
      await api(a.url, user.token)('POST', '/api/auth/logout-everywhere')
      // What was known of the session is believed for a second.
      await delay(1000)
      // A socket that is gone already would keep the event for a connection that never comes.
      const refused = (error?: unknown) => ({ ok: false, error })
      const answer = socket.connected
        ? await ask(socket, 'chat-message', { chatId, content: 'taken?' }).catch(refused)
        : refused()
      t.equal(answer.ok, false)
      t.same(await b.app.store.listMessages(chatId, 10), [])
      await eventually('the socket is gone', () => !socket.connected)
    })
  }

  t.test('the channel of a deleted chat is left at every server', async (t) => {
    const { a, user, socket, chatId } = await startTwo(t, redisUrl)
    const redis = new Redis(redisUrl)
    t.teardown(() => redis.disconnect())
    const subscribers = async () => {
      const [, count] = await redis.pubsub('NUMSUB', chatChannel(chatId))
      return Number(count)
    }
    const local = await connect(t, a.url, user.token)
    await Promise.all([socket, local].map((one) => ask(one, 'join-chat', { chatId })))
    t.equal(await subscribers(), 2)
    const gone = hear(socket, 'chat-deleted')
    await api(a.url, user.token)('DELETE', `/api/ai/chats/${chatId}`)
    await gone
    await eventually('nobody listens any more', async () => (await subscribers()) === 0)
    t.ok(socket.connected && local.connected, 'while the sockets stay')
  })
}
