import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Chat, ChatWithMessages } from '../../schemas/chats.js'
import type { Turn } from '../../schemas/messages.js'
import { api, register } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { startServer } from '../services/server-process.js'

/** Lets no file of a process grow past `bytes`: what a full or read-only disk answers. */
const limitFiles = (pid: number, bytes: number | 'unlimited') =>
  spawnSync('prlimit', ['--pid', `${pid}`, `--fsize=${bytes}:`]).status === 0

t.test('a disk without room: said clearly, nothing acknowledged, reads go on', async (t) => {
  if (!limitFiles(process.pid, 'unlimited')) {
    t.pass('nothing tried', { skip: 'no limit can be set here' })
    return
  }
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const DATA_DIR = await mkdtemp(join(tmpdir(), 'chat-disk-'))
  t.teardown(() => rm(DATA_DIR, { recursive: true, force: true }))
  const server = await startServer({ DATA_DIR, OLLAMA_API_URL: standIn.url, MONGODB_URI: '' })
  t.teardown(() => server.end('SIGKILL'))
  const user = await register(server.url)
  const call = api(server.url, user.token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  const path = `/api/ai/chats/${chat.id}`
  const socket = await connect(t, server.url, user.token)
  const running = await call<Turn>(
    'POST',
    `${path}/messages`,
    { content: 'len=300 rate=200' },
    { prefer: 'respond-async' },
  )
  await standIn.chatCall()

  t.ok(limitFiles(server.pid, 0))
  const key = { 'idempotency-key': 'once' }
  const send = () => call<Turn>('POST', `${path}/messages`, { content: 'len=10' }, key)
  t.match(await send(), { status: 503, body: { code: 'STORAGE_FULL', message: /full|read-only/ } })
  t.match(await ask(socket, 'chat-message', { chatId: chat.id, content: 'len=11' }), {
    ok: false,
    error: { code: 'STORAGE_FULL', retryable: true },
  })
  t.match(await call('POST', '/api/ai/chats', {}), { status: 503 })
  const { body: meanwhile } = await call<ChatWithMessages>('GET', path)
  t.same(
    meanwhile.messages.map(({ id }) => id),
    [running.body.message.id, running.body.reply.id],
  )
  t.equal((await fetch(`${server.url}/health/live`)).status, 200)

  t.ok(limitFiles(server.pid, 'unlimited'))
  t.match(await send(), { status: 201, body: { reply: { content: standInReply('len=10') } } })
  const { body: after } = await call<ChatWithMessages>('GET', path)
  t.same(
    after.messages.map(({ status, content }) => ({ status, content })),
    ['len=300 rate=200', 'len=10'].flatMap((content) => [
      { status: 'complete', content },
      { status: 'complete', content: standInReply(content) },
    ]),
    'what ran meanwhile was kept whole',
  )
})
