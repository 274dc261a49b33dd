import { setTimeout as delay } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { Chat, ChatList, ChatWithMessages } from '../../schemas/chats.js'
import type { ActiveReply } from '../../schemas/events.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { api, outsideServices, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { type Script, startStandIn } from '../services/ollama-stand-in.js'
import { startRedis } from '../services/redis-process.js'
import { startServer } from '../services/server-process.js'

const terminalId = '18446744073709551614-1'
const { REDIS_URL, MONGODB_URI } = process.env
const skip = REDIS_URL ? false : 'REDIS_URL is not set'

/** Two servers over one database and a Redis of their own, and a user of both. */
async function startTwo(t: Test, script?: Script) {
  const redis = await startRedis(t)
  const standIn = await startStandIn({ script })
  t.teardown(() => standIn.close())
  const settings = {
    DATA_DIR: t.testdir(),
    JWT_SECRET: 'a secret that both of the servers share',
    REDIS_URL: redis.url,
    OLLAMA_API_URL: standIn.url,
  }
  const a = await startApp(t, settings)
  const b = await startApp(t, settings)
  return { a, b, redis: redis.client, standIn, ...(await converse(a.url)) }
}

/** What is in Redis, with how long it lives, in milliseconds. */
async function lives(redis: Redis): Promise<[key: string, ms: number][]> {
  const keys = await redis.keys('*')
  return Promise.all(keys.map(async (key) => [key, await redis.pttl(key)] as [string, number]))
}

/** Resolves when a reply's log is closed, and soon gone. */
function logIsClosed(redis: Redis, messageId: string): Promise<void> {
  const key = `chat:s:{${messageId}}:1`
  return eventually('its log is closed', async () => {
    const [last] = await redis.xrevrange(key, '+', '-', 'COUNT', 1)
    const ms = await redis.pttl(key)
    return last?.[0] === terminalId && ms > 0 && ms <= 60_000
  })
}

t.test('every key in Redis has a life, and a log is closed with its reply', { skip }, async (t) => {
  const { b, redis, user, newChat, send, post } = await startTwo(t)
  const chatIds = await Promise.all([1, 2, 3, 4].map(() => newChat()))
  const socket = await connect(t, b.url, user.token)
  const heard = record(socket)
  for (const chatId of chatIds) await ask(socket, 'join-chat', { chatId })
  const replies = await Promise.all(
    chatIds.map(async (chatId) => (await post(chatId, { content: 'len=900 rate=100' })).body.reply),
  )
  await heard.chunk(replies[0]?.id ?? '')
  await eventually('some wait, and a log is written', async () => {
    const keys = await redis.keys('*')
    return ['running', 'served', ':s:'].every((name) => keys.join().includes(name))
  })
  for (const [key, ms] of await lives(redis)) t.ok(ms > 0, `${key} ends in ${ms} ms`)
  for (const { id } of replies) {
    await heard.message(id)
    await logIsClosed(redis, id)
  }
  await send(chatIds[0] ?? '', { content: 'len=20' })
  for (const [key, ms] of await lives(redis)) t.ok(ms > 0, `${key} ends in ${ms} ms`)
})

t.test('a log that Redis was slow to take is closed, and has a life', { skip }, async (t) => {
  const { a, redis, user, newChat, post } = await startTwo(t)
  const chatId = await newChat()
  const socket = await connect(t, a.url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const { reply } = (await post(chatId, { content: 'len=400 rate=300' })).body
  await heard.chunk(reply.id)
  // Before the first entry is acknowledged.
  await redis.client('PAUSE', 600, 'WRITE')
  await heard.message(reply.id)
  await logIsClosed(redis, reply.id)
  for (const [key, ms] of await lives(redis)) t.ok(ms > 0, `${key} ends in ${ms} ms`)
})

t.test(
  'who stops a reply of a server that is dead closes its log',
  { skip: skip || (MONGODB_URI ? false : 'MONGODB_URI is not set') },
  async (t) => {
    const redis = await startRedis(t)
    const standIn = await startStandIn()
    t.teardown(() => standIn.close())
    const settings = {
      ...outsideServices(t.testdir()),
      JWT_SECRET: 'a secret that both of the servers share',
      REDIS_URL: redis.url,
      OLLAMA_API_URL: standIn.url,
      // Nobody takes the replies over.
      LEASE_MS: '600000',
    }
    const [holder, other] = await Promise.all([startServer(settings), startServer(settings)])
    t.teardown(() => holder.end('SIGKILL'))
    t.teardown(() => other.end('SIGKILL'))
    const { user, newChat, post, messagesOf } = await converse(holder.url)
    const call = api(other.url, user.token)
    const begin = async () => {
      const chatId = await newChat()
      const { reply } = (await post(chatId, { content: 'len=90000 rate=100' })).body
      await eventually('its log is written', async () => {
        return (await redis.client.exists(`chat:s:{${reply.id}}:1`)) === 1
      })
      return { chatId, id: reply.id }
    }
    const [stopped, deleted] = [await begin(), await begin()]
    await holder.end('SIGKILL')
    const path = `${messagesOf(stopped.chatId)}/${stopped.id}/stop`
    t.match(await call<Message>('POST', path), { body: { status: 'stopped' } })
    await logIsClosed(redis.client, stopped.id)
    t.equal((await call('DELETE', `/api/ai/chats/${deleted.chatId}`)).status, 204)
    await logIsClosed(redis.client, deleted.id)
  },
)

const words = Array.from({ length: 5000 }, (_, n) => `word${n} `)

/** A reply that says one word after the other until it is let go. */
function endless() {
  let isLetGo = false
  const script: Script = async function* () {
    for (const content of words) {
      if (isLetGo) return
      yield { content }
      yield { wait: delay(40) }
    }
  }
  const letGo = () => {
    isLetGo = true
  }
  return { script, letGo }
}

for (const [fault, fail] of [
  ['takes no log', (redis: Redis) => redis.config('SET', 'maxmemory', '1')],
  ['comes back empty', (redis: Redis) => redis.flushall()],
] as const) {
  t.test(`chunks go on at another server where Redis ${fault}`, { skip }, async (t) => {
    const { script, letGo } = endless()
    const { a, b, redis, user, newChat, post } = await startTwo(t, script)
    t.teardown(letGo)
    const chatId = await newChat()
    const socket = await connect(t, a.url, user.token)
    const told = record(socket)
    await ask(socket, 'join-chat', { chatId })
    const { reply } = (await post(chatId, { content: 'x' })).body
    await told.until(() => (told.text(reply.id).length > 50 ? true : undefined))
    await fail(redis)
    await told.until(() => (told.text(reply.id).length > 100 ? true : undefined))
    const other = await connect(t, b.url, user.token)
    const heard = record(other)
    const asked = { chatId, messageId: reply.id, epoch: 1, offset: 0 }
    const { active } = (await ask(other, 'join-chat', asked)) as { active: ActiveReply[] }
    const given = active[0]?.text ?? ''
    // It never pauses: only what comes in the middle of it can make up for what is missing.
    await heard.until(() => (heard.text(reply.id).length > 300 ? true : undefined))
    letGo()
    const { status, content } = await heard.message(reply.id)
    t.equal(status, 'complete')
    t.ok(words.join('').startsWith(content))
    t.ok(content.startsWith(given + heard.text(reply.id)), 'without a gap')
  })
}

t.test('a start that is heard while running replies are read is followed', { skip }, async (t) => {
  const { script, letGo } = endless()
  const { a, b, user, newChat, post } = await startTwo(t, script)
  t.teardown(letGo)
  const chatId = await newChat()
  const socket = await connect(t, b.url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const { store } = b.app
  const { listActiveReplies } = store
  let resume = () => {}
  const started = new Promise<void>((resolve) => {
    resume = resolve
  })
  // What the other server reads is from before the reply, and takes until it has begun.
  store.listActiveReplies = async (id) => {
    store.listActiveReplies = listActiveReplies
    const rows = await listActiveReplies.call(store, id)
    await started
    return rows
  }
  const late = await connect(t, b.url, user.token)
  const joined = ask(late, 'join-chat', { chatId })
  await eventually('the store is read', () => store.listActiveReplies === listActiveReplies)
  const { reply } = (await post(chatId, { content: 'x' })).body
  await heard.until(() => heard.starts.find(({ status }) => status === 'streaming'))
  resume()
  await joined
  await heard.until(() => (heard.text(reply.id).length > 300 ? true : undefined))
  t.ok(heard.chunks.length > 10, `${heard.chunks.length} chunks`)
  letGo()
  const { status, content } = await heard.message(reply.id)
  t.equal(status, 'complete')
  t.ok(words.join('').startsWith(content))
  t.equal(a.app.generations.counts.running, 0)
})

for (const [state, refuse, accept] of [
  [
    'has too few replicas',
    (redis: Redis) => redis.config('SET', 'min-replicas-to-write', '1'),
    (redis: Redis) => redis.config('SET', 'min-replicas-to-write', '0'),
  ],
  [
    'is read-only',
    (redis: Redis) => redis.replicaof('127.0.0.1', 1),
    (redis: Redis) => redis.replicaof('NO', 'ONE'),
  ],
] as const) {
  t.test(`what a Redis keeps that ${state} is not believed`, { skip }, async (t) => {
    const { a, b, redis, user, newChat, send } = await startTwo(t)
    const [deleted, renamed] = [await newChat(), await newChat()]
    await send(deleted, { content: 'len=20' })
    const calls = [a, b].map(({ url }) => api(url, user.token))
    const page = (chatId: string) => `/api/ai/chats/${chatId}`
    const readAll = (chatId: string) =>
      Promise.all(calls.map((call) => call<ChatWithMessages>('GET', page(chatId))))
    const listAll = () =>
      Promise.all(
        calls.map(async (call) => (await call<ChatList>('GET', '/api/ai/chats')).body.chats),
      )
    const keep = async () => {
      for (let n = 0; n < 2; n++) {
        for (const chatId of [deleted, renamed]) await readAll(chatId)
        await listAll()
      }
    }
    await keep()
    await refuse(redis)
    t.equal((await calls[0]?.('DELETE', page(deleted)))?.status, 204)
    for (const { status } of await readAll(deleted)) t.equal(status, 404)
    const patched = await calls[1]?.<Chat>('PATCH', page(renamed), { title: 'new' })
    t.equal(patched?.status, 200)
    for (const { body } of await readAll(renamed)) t.equal(body.title, 'new')
    for (const chats of await listAll()) t.match(chats, [{ id: renamed, title: 'new' }])
    await accept(redis)
    // A server to which Redis was slow asks it again later, and deletes first what it could not.
    for (const { app } of [a, b]) {
      await eventually('it asks Redis', () => app.cache.set('chat:taken', '1', 1000))
    }
    // Nor what was kept before, when it writes again.
    for (const { status } of await readAll(deleted)) t.equal(status, 404)
    for (const { body } of await readAll(renamed)) t.equal(body.title, 'new')
    const turn = await send<Turn>(renamed, { content: 'len=20' })
    t.equal(turn.status, 201)
    for (const { body } of await readAll(renamed)) t.equal(body.messages.length, 2)
  })
}
