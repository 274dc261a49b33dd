import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import {
  chatChannel,
  chatsState,
  keyTable,
  limitKey,
  limitOf,
  lostDeletionsChannel,
  missedNewsChannel,
  replyChannel,
  serversChannel,
  sessionsChannel,
  userChannel,
} from '../../src/cache/keys.js'
import { api, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { startStandIn } from '../services/ollama-stand-in.js'
import { startRedis } from '../services/redis-process.js'

const { REDIS_URL, MONGODB_URI } = process.env
const skip = REDIS_URL && MONGODB_URI ? false : 'REDIS_URL or MONGODB_URI is not set'

const escaped = (text: string) => text.replace(/[{}]/g, '\\$&')

/** The rows of the table that a key is of. */
const rowsOf = (key: string) =>
  keyTable.filter(({ pattern }) =>
    new RegExp(`^${pattern.split('*').map(escaped).join('.+')}$`).test(key),
  )

/** Every key that commands name from now on. */
async function recordKeys(t: Test, { client }: Awaited<ReturnType<typeof startRedis>>) {
  const keys = new Set<string>()
  const monitor = await client.monitor()
  t.teardown(() => monitor.disconnect())
  monitor.on('monitor', (_time: string, [command = '', ...words]: string[]) => {
    if (/publish|subscribe/i.test(command)) return
    for (const word of words) if (word.startsWith('chat:')) keys.add(word)
  })
  return keys
}

t.test('Redis has the keys of the table and no other, each with its life', { skip }, async (t) => {
  const redis = await startRedis(t)
  const keys = await recordKeys(t, redis)
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const DATA_DIR = await mkdtemp(join(tmpdir(), 'chat-keys-'))
  t.teardown(() => rm(DATA_DIR, { recursive: true, force: true }))
  const settings = {
    DATA_DIR,
    REDIS_URL: redis.url,
    OLLAMA_API_URL: standIn.url,
    OLLAMA_MAX_CONCURRENT: '1',
  }
  const [a, b] = [await startApp(t, settings), await startApp(t, settings)]
  const { user, call, newChat, post, send, read } = await converse(a.url)
  const there = api(b.url, user.token)

  /** Looks at what is there: it lives no longer than the table says. */
  async function inspect() {
    for (const key of await redis.client.keys('*')) {
      const [ms, value] = [await redis.client.pttl(key), await redis.client.type(key)]
      // It may have ended between the two questions.
      if (value === 'none') continue
      t.ok(ms > 0, `${key} ends in ${ms} ms`)
      const [row] = rowsOf(key)
      if (typeof row?.life === 'number') t.ok(ms <= row.life, `${key} ends in ${row.life} ms`)
    }
  }

  const [first, second] = [await newChat(), await newChat()]
  const socket = await connect(t, b.url, user.token)
  const heard = record(socket)
  for (const chatId of [first, second]) await ask(socket, 'join-chat', { chatId })
  const { reply } = (await post(first, { content: 'len=900 rate=100' })).body
  await heard.chunk(reply.id)
  await there(
    'POST',
    `/api/ai/chats/${second}/messages`,
    { content: 'len=20' },
    { prefer: 'respond-async' },
  )
  await eventually('the other server wants a slot', () => keys.has('chat:{slots}:wanting'))
  await inspect()
  await heard.message(reply.id)
  await send(first, { content: 'len=20', options: { temperature: 0, seed: 1 } })
  for (const path of ['/api/ai/chats', '/api/ai/models']) await call('GET', path)
  await read(first)
  await eventually('what was learnt is stored', () => [...keys].some((key) => /learnt/.test(key)))
  await inspect()
  await call('POST', '/api/auth/logout')

  for (const key of keys) t.equal(rowsOf(key).length, 1, key)
  t.same(
    keyTable.filter((row) => ![...keys].some((key) => rowsOf(key).includes(row))),
    [],
    'every row was met',
  )
})

t.test('the limit of a counter is told by its key, and of no other key', async (t) => {
  t.equal(limitOf(limitKey('requests', 'ada')), 'requests')
  t.equal(limitOf(chatsState('ada').key), '')
  t.equal(limitOf('chat:limit'), '')
})

t.test('every channel has a name of its own', async (t) => {
  const names = [
    ...['ada', 'grace'].flatMap((id) => [chatChannel(id), userChannel(id), replyChannel(id)]),
    ...[serversChannel, sessionsChannel, missedNewsChannel, lostDeletionsChannel],
  ]
  t.equal(new Set(names).size, names.length)
  for (const name of names) t.match(name, /^chat:./)
})
