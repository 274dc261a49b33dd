import t, { type Test } from 'tap'
import type { SignedIn } from '../../schemas/auth.js'
import type { Chat } from '../../schemas/chats.js'
import type { Turn } from '../../schemas/messages.js'
import { api, outsideServices, register, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { eventually } from '../services/eventually.js'
import { standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { type Fault, startTcpProxy } from '../services/tcp-proxy.js'

const redis = outsideServices('redis-away').REDIS_URL
if (redis) {
  for (const fault of ['silent', 'cut'] as const) {
    t.test(`Redis ${fault}: no request fails, streams go on`, (t) => goesOn(t, redis, fault))
  }
} else t.test('Redis away', { skip: 'REDIS_URL is not set' }, async () => {})

async function goesOn(t: Test, redisUrl: string, fault: Fault) {
  const proxy = await startTcpProxy(t, redisUrl)
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { url } = await startApp(t, { REDIS_URL: proxy.url, OLLAMA_API_URL: standIn.url })
  const user = await register(url)
  const revoked = await register(url)
  const call = api(url, user.token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  const path = `/api/ai/chats/${chat.id}/messages`
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId: chat.id })
  const content = 'len=1500 rate=150'
  const running = await call<Turn>('POST', path, { content }, { prefer: 'respond-async' })
  const { id } = running.body.reply
  await heard.chunk(id)
  await call('GET', '/api/ai/chats')

  proxy.fail(fault)
  // What waited for a silent Redis would never be answered.
  const answers = async (status: number, asked: () => Promise<{ status: number }>) => {
    t.equal((await asked()).status, status)
  }
  await answers(200, () => call('GET', '/api/ai/chats'))
  await answers(200, () => call('GET', '/api/ai/models'))
  await answers(201, () => call('POST', '/api/ai/chats', {}))
  await answers(200, () => call('GET', '/api/auth/profile'))
  await answers(204, () => api(url, revoked.token)('POST', '/api/auth/logout'))
  await answers(401, () => api(url, revoked.token)('GET', '/api/auth/profile'))
  await answers(401, () =>
    call('POST', '/api/auth/refresh', { refreshToken: revoked.refreshToken }),
  )
  const late = await connect(t, url, user.token)
  t.match(await ask(late, 'join-chat', { chatId: chat.id }), { ok: true })

  t.match(await heard.message(id), { status: 'complete', content: standInReply(content) })
  t.equal(heard.text(id), standInReply(content), 'without a gap')
  const next = await call<Turn>('POST', path, { content: 'len=20' })
  t.match(next, { status: 201, body: { reply: { content: standInReply('len=20') } } })
  t.match(await (await fetch(`${url}/health/ready`)).json(), {
    status: 'degraded',
    services: { redis: { status: 'down' }, db: { status: 'ok' } },
  })

  proxy.repair()
  await eventually('Redis is back', async () => {
    const response = await fetch(`${url}/health/ready`)
    return ((await response.json()) as { status: string }).status === 'ok'
  })
  const { username } = user.user
  const other = await call<SignedIn>('POST', '/api/auth/login', { username, password: 'wrong one' })
  t.equal(other.status, 401)
  t.equal((await call<Turn>('POST', path, { content: 'len=30' })).status, 201)
}
