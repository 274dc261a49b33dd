import { fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Chat, ChatWithMessages } from '../schemas/chats.js'
import type { Turn } from '../schemas/messages.js'
import { api, register } from './services/app.js'
import { ask, connect, hear, record } from './services/client.js'
import { connectDeaf, upgradeHalfway } from './services/deaf-socket.js'
import { standInReply, startStandIn } from './services/ollama-stand-in.js'
import { entry, startRefused, startServer } from './services/server-process.js'

async function dataDir(t: { teardown(fn: () => unknown): unknown }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'chat-server-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

t.test('settings that cannot be used are all named, and the process ends with 1', async (t) => {
  const { status, output } = await startRefused({
    PORT: 'x',
    NODE_ENV: 'production',
    LEASE_MS: '0',
  })
  t.equal(status, 1)
  for (const name of ['PORT', 'LEASE_MS', 'JWT_SECRET']) t.match(output, new RegExp(`- ${name} `))
})

t.test('a server that cannot listen names the setting to change', async (t) => {
  const first = await startServer({ DATA_DIR: await dataDir(t) })
  t.teardown(() => first.end('SIGKILL'))
  const { port } = new URL(first.url)
  const taken = await startRefused({ DATA_DIR: await dataDir(t), PORT: port })
  t.equal(taken.status, 1)
  t.match(taken.output, `PORT ${port} is taken`)
  t.notMatch(taken.output, /\n +at /, 'no stack')
  // An address for documentation, which no machine has.
  const foreign = await startRefused({ DATA_DIR: await dataDir(t), HOST: '192.0.2.1' })
  t.equal(foreign.status, 1)
  t.match(foreign.output, 'HOST 192.0.2.1 is no address of this machine')
})

t.test('a start that is refused ends though nobody reads its log any more', async (t) => {
  const settings = { DATA_DIR: await dataDir(t), HOST: '192.0.2.1' }
  const { status } = await startRefused(settings, undefined, ({ stdout }) => stdout.destroy())
  t.equal(status, 1)
})

t.test('a second process on the same data is refused, and told who holds it', async (t) => {
  const DATA_DIR = await dataDir(t)
  const first = await startServer({ DATA_DIR })
  t.teardown(() => first.end('SIGKILL'))
  const { status, output } = await startRefused({ DATA_DIR })
  t.equal(status, 1)
  t.match(output, new RegExp(`\\b${first.pid}\\b`))
  t.equal((await fetch(`${first.url}/health/ready`)).status, 200, 'the first is not disturbed')
})

t.test('SIGTERM: refused, told, handed over, 0; the next goes on from where it was', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const settings = { DATA_DIR: await dataDir(t), OLLAMA_API_URL: standIn.url, LOG_LEVEL: 'info' }
  const first = await startServer(settings)
  t.teardown(() => first.end('SIGKILL'))
  const user = await register(first.url)
  const call = api(first.url, user.token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  const socket = await connect(t, first.url, user.token, { reconnection: false })
  const heard = record(socket)
  const content = 'len=2000 rate=300'
  const path = `/api/ai/chats/${chat.id}/messages`
  const waiting = call<{ code: string }>('POST', path, { content }, { 'idempotency-key': 'k' })
  socket.emit('join-chat', { chatId: chat.id })
  await heard.until(() => heard.chunks[0])
  const gone = hear(socket, 'disconnect')
  const status = await first.end('SIGTERM')
  t.equal(status, 0)
  await gone
  t.match(await waiting, { status: 503, body: { code: 'SHUTTING_DOWN' } })

  const second = await startServer(settings)
  t.teardown(() => second.end('SIGKILL'))
  const again = api(second.url, user.token)
  const done = await again<Turn>('POST', path, { content }, { 'idempotency-key': 'k' })
  t.equal(done.status, 201)
  t.equal(done.body.reply.content, standInReply(content))
  const calls = standIn.callsOf('/api/chat')
  t.equal(calls.length, 2)
  t.equal(calls[1]?.body.messages.at(-1)?.role, 'assistant', 'gone on from the text that was kept')
})

t.test('SIGTERM ends it well, whatever clients do or leave undone', async (t) => {
  const server = await startServer({ DATA_DIR: await dataDir(t), SHUTDOWN_GRACE_MS: '3000' })
  t.teardown(() => server.end('SIGKILL'))
  const { token } = await register(server.url)
  const eager = { reconnectionDelay: 1, reconnectionDelayMax: 50 }
  await Promise.all(Array.from({ length: 20 }, () => connect(t, server.url, token, eager)))
  // One says nothing, one half a request, one no more than that it wants a WebSocket.
  const upgrade = [
    'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1',
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  ]
  for (const said of ['', 'POST /api/auth/login HTTP/1.1\r\n', `${upgrade.join('\r\n')}\r\n\r\n`]) {
    const client = createConnection(Number(new URL(server.url).port), '127.0.0.1')
    t.teardown(() => client.destroy())
    await once(client, 'connect')
    client.write(said)
    if (said.endsWith('\r\n\r\n')) await once(client, 'data')
  }
  t.equal(await server.end('SIGTERM'), 0)
})

t.test('SIGTERM ends a server in spite of an upgrade that is never finished', async (t) => {
  const settings = { DATA_DIR: await dataDir(t), SHUTDOWN_GRACE_MS: '4000', LOG_LEVEL: 'info' }
  const server = await startServer(settings)
  t.teardown(() => server.end('SIGKILL'))
  const { token } = await register(server.url)
  const socket = await upgradeHalfway(server.url, token)
  t.teardown(() => socket.destroy())
  t.equal(await server.end('SIGTERM'), 0)
  const line = server.lines.find((logged) => logged.includes('"connections":1'))
  t.match(
    line,
    /"from":\["127\.0\.0\.1:\d+"\].*closing connections/,
    'the log names the connection',
  )
})

t.test('SIGTERM ends a server in spite of a WebSocket that does not read its close', async (t) => {
  const server = await startServer({ DATA_DIR: await dataDir(t), SHUTDOWN_GRACE_MS: '4000' })
  t.teardown(() => server.end('SIGKILL'))
  const { token } = await register(server.url)
  const call = api(server.url, token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  const { socket } = await connectDeaf(server.url, token, chat.id)
  t.teardown(() => socket.destroy())
  await call('POST', '/api/auth/logout-everywhere')
  t.equal(await server.end('SIGTERM'), 0)
})

t.test('a signal to stop that comes twice is one stop', async (t) => {
  const server = await startServer({ DATA_DIR: await dataDir(t), LOG_LEVEL: 'info' })
  t.teardown(() => server.end('SIGKILL'))
  // Half a request, so that closing takes until the second signal.
  const client = createConnection(Number(new URL(server.url).port), '127.0.0.1')
  t.teardown(() => client.destroy())
  await once(client, 'connect')
  client.write('POST /api/auth/login HTTP/1.1\r\n')
  const ended = server.end('SIGINT')
  const shutdowns = () => server.lines.filter((line) => line.includes('"shutting down"')).length
  while (shutdowns() === 0) await once(server.child, 'line')
  server.child.kill('SIGINT')
  server.child.kill('SIGTERM')
  t.equal(await ended, 0)
  t.equal(shutdowns(), 1)
})

t.test('a server whose parent has ended, as node --watch may in a restart, ends too', async (t) => {
  const env = {
    NODE_ENV: 'test',
    PORT: '0',
    START_TIMEOUT_MS: '120000',
    DATA_DIR: await dataDir(t),
  }
  const child = fork(entry, { env, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  let log = ''
  child.stdout?.on('data', (text) => {
    log += text
    // Its end is what a parent's end does to the channel between them.
    if (log.includes('Server listening') && child.connected) child.disconnect()
  })
  t.strictSame(await exited, [0, null])
  t.match(log, 'the process that started this one has ended')
})

/**
 * All is read-only but DATA_DIR, as deploy/compose.yaml has it; fails where something else is written. By
 * NODE_OPTIONS tap has every program of Node write a file when it ends.
 */
const readOnly =
  'mount --bind "$DATA_DIR" "$DATA_DIR" && mount -o remount,ro,bind / && ! mkdir /written && ' +
  'unset NODE_OPTIONS && exec "$@"'

t.test(
  'as the first process of a read-only container it serves, and ends on SIGTERM',
  async (t) => {
    const inContainer = ['--mount', '--pid', '--fork', '--kill-child']
    const tried = spawnSync('unshare', [...inContainer, 'true'])
    if (tried.status !== 0)
      return t.pass('nothing tried', { skip: 'no namespace may be made here' })
    const settings = { NODE_ENV: 'test', PORT: '0', START_TIMEOUT_MS: '120000' }
    const words = [...inContainer, 'sh', '-c', readOnly, 'sh', process.execPath, entry]
    const container = spawn('unshare', words, {
      env: { PATH: process.env.PATH, ...settings, DATA_DIR: await dataDir(t) },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    t.teardown(() => container.kill('SIGKILL'))
    const exited = once(container, 'exit')
    const lines = createInterface({ input: container.stdout })
    let line = ''
    while (!line.includes('Server listening')) [line] = await once(lines, 'line')
    t.match(line, '"pid":1,')
    await register(/http:[^"]+/.exec(line)?.[0] ?? '')
    const children = await readFile(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8')
    process.kill(Number(children.trim()), 'SIGTERM')
    t.strictSame(await exited, [0, null])
  },
)

t.test('SIGTERM ends it though nobody reads its log any more', async (t) => {
  /** A server whose log is not read, after `lines` of it. */
  const unread = async (lines: number) => {
    const server = await startServer({ DATA_DIR: await dataDir(t) })
    t.teardown(() => server.end('SIGKILL'))
    server.child.stdout?.pause()
    const ask = async () => (await fetch(`${server.url}/nothing`)).text()
    for (let asked = 0; asked < lines; asked += 100) {
      await Promise.all(Array.from({ length: 100 }, ask))
    }
    return server
  }
  const isGone = await unread(0)
  isGone.child.stdout?.destroy()
  t.equal(await isGone.end('SIGTERM'), 0)

  // More than this process takes in by itself, so that the rest is lost when it goes.
  const isReset = await unread(500)
  isReset.child.stdout?.destroy()
  await fetch(`${isReset.url}/nothing`)
  // A line waits for a tenth of a second before it is written.
  await delay(300)
  t.equal((await fetch(`${isReset.url}/health/live`)).status, 200, 'it goes on serving')
  t.equal(await isReset.end('SIGTERM'), 0)

  // More than the pipe holds as well.
  const isStuck = await unread(5000)
  t.equal(await isStuck.end('SIGTERM'), 'SIGKILL', 'by itself')
})

t.test(
  'kill -9: what was acknowledged is there once, and the reply goes on by itself',
  async (t) => {
    const standIn = await startStandIn()
    t.teardown(() => standIn.close())
    const settings = { DATA_DIR: await dataDir(t), OLLAMA_API_URL: standIn.url }
    const first = await startServer(settings)
    const user = await register(first.url)
    const call = api(first.url, user.token)
    const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
    const path = `/api/ai/chats/${chat.id}/messages`
    const contents = ['len=900 rate=300', 'len=50', 'len=60']
    for (const content of contents) {
      t.equal((await call('POST', path, { content }, { prefer: 'respond-async' })).status, 202)
    }
    await standIn.chatCall()
    await first.end('SIGKILL')
    const second = await startServer(settings)
    t.teardown(() => second.end('SIGKILL'))
    const socket = await connect(t, second.url, user.token)
    const heard = record(socket)
    const asked = await ask(socket, 'join-chat', { chatId: chat.id })
    for (const { messageId } of asked.active) await heard.message(messageId)
    const { body } = await api(second.url, user.token)<ChatWithMessages>(
      'GET',
      `/api/ai/chats/${chat.id}`,
    )
    t.same(
      body.messages.map(({ seq, status, content }) => ({ seq, status, content })),
      contents.flatMap((content, n) => [
        { seq: 2 * n + 1, status: 'complete', content },
        { seq: 2 * n + 2, status: 'complete', content: standInReply(content) },
      ]),
    )
  },
)

t.test('replies of one chat keep their order when Ollama is away at the takeover', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const settings = { DATA_DIR: await dataDir(t), OLLAMA_API_URL: standIn.url, LEASE_MS: '400' }
  const first = await startServer(settings)
  const user = await register(first.url)
  const { body: chat } = await api(first.url, user.token)<Chat>('POST', '/api/ai/chats', {})
  const path = `/api/ai/chats/${chat.id}`
  const send = (url: string, content: string, how = {}) =>
    api(url, user.token)<Turn>(
      'POST',
      `${path}/messages`,
      { content },
      { 'idempotency-key': content, ...how },
    )
  const contents = ['len=3000 rate=300', 'len=30']
  for (const content of contents) await send(first.url, content, { prefer: 'respond-async' })
  const read = async () => api(first.url, user.token)<ChatWithMessages>('GET', path)
  while (!(await read()).body.messages[1]?.content) await delay(20)
  await first.end('SIGKILL')
  await standIn.stop()

  const second = await startServer(settings)
  t.teardown(() => second.end('SIGKILL'))
  while (!second.lines.some((line) => line.includes('takeover waits for Ollama'))) {
    await once(second.child, 'line')
  }
  await standIn.restart()
  for (const content of contents) {
    t.match(await send(second.url, content), {
      status: 201,
      body: { reply: { status: 'complete', content: standInReply(content) } },
    })
  }
  t.equal(
    standIn.callsOf('/api/chat').at(-1)?.body.messages[1]?.content,
    standInReply('len=3000 rate=300'),
    'the second was asked with the first reply whole',
  )
})
