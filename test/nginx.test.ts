import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { api, register, startApp } from './services/app.js'
import { ask, connect } from './services/client.js'
import { eventually } from './services/eventually.js'
import { send } from './services/raw.js'
import { h2cHeaders, RawConnection } from './services/raw-connection.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const shipped = join(import.meta.dirname, '../../deploy/nginx.conf')

/** Set by test/services/services.sh, and then nginx must be there; else it may be. */
const nginx =
  process.env.TEST_NGINX ??
  [...(process.env.PATH ?? '').split(':'), '/usr/sbin']
    .map((folder) => join(folder, 'nginx'))
    .find((file) => existsSync(file))
const skip = nginx === undefined && 'TEST_NGINX is not set, and no nginx is on PATH'

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}

/** The shipped configuration, but for its ports, in a real nginx before a server that trusts it. */
async function startBehindNginx(t: Teardown, settings: Readonly<Record<string, string>> = {}) {
  const { url: direct } = await startApp(t, { TRUST_PROXY: '1', REDIS_URL: '', ...settings })
  const folder = await mkdtemp(join(tmpdir(), 'chat-nginx-'))
  const port = await freePort()
  const site = (await readFile(shipped, 'utf8'))
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace(/( +server 127\.0\.0\.1:\d+;\n)+/, `server ${new URL(direct).host};\n`)
  await writeFile(join(folder, 'site.conf'), site)
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  )
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr;
     events {}
     http { access_log off; ${folders.join(' ')} include ${folder}/site.conf; }`,
  )
  const child: ChildProcess = spawn(
    nginx ?? 'nginx',
    ['-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGTERM')
    await exited
    await rm(folder, { recursive: true, force: true })
  })
  const url = `http://127.0.0.1:${port}`
  await eventually('nginx answers', async () => {
    if (child.exitCode !== null) throw new Error('nginx ended')
    return (await fetch(`${url}/health/live`).catch(() => undefined))?.status === 200
  })
  return { url, direct }
}

t.test('a client cannot choose its address through nginx', { skip }, async (t) => {
  const { url } = await startBehindNginx(t, { RATE_LIMIT_CREDENTIALS_PER_MINUTE: '6' })
  const statuses: number[] = []
  for (let n = 0; n < 8; n++) {
    const headers = {
      'content-type': 'application/json',
      'x-forwarded-for': `192.0.2.${n}`,
      forwarded: `for=192.0.2.${n}`,
    }
    statuses.push((await send(url, 'POST', '/api/auth/login', headers, '{}')).status)
  }
  t.strictSame(statuses, [400, 400, 400, 400, 400, 400, 429, 429])
})

t.test(
  'nginx passes Host with its port on, by which a page at an IP address is let in',
  { skip },
  async (t) => {
    const { url } = await startBehindNginx(t)
    const login = async (origin: string, headers: Record<string, string> = {}) => {
      const all = { 'content-type': 'application/json', origin, ...headers }
      return (await send(url, 'POST', '/api/auth/login', all, '{}')).status
    }
    t.equal(await login(url), 400, 'its own page')
    t.equal(await login('http://127.0.0.1'), 403, 'another port')
    t.equal(await login(url.replace('http:', 'https:')), 403, 'another scheme')
    t.equal(await login('http://evil.example', { host: 'evil.example' }), 403)
    t.equal(await login('http://evil.example', { 'x-forwarded-host': 'evil.example' }), 403)
  },
)

t.test('nginx publishes neither /metrics nor /health/ready', { skip }, async (t) => {
  const { url, direct } = await startBehindNginx(t)
  for (const path of ['/metrics', '/health/ready']) {
    t.equal((await send(direct, 'GET', path)).status, 200, `${path} at the server itself`)
    const others = ['/', '?x=1', '#x', '%2f'].map((end) => path + end)
    for (const written of [path, ...others, `/${path}`, path.replace('e', '%65'), `/x/..${path}`]) {
      t.equal((await send(url, 'GET', written)).status, 404, written)
    }
  }
  t.equal((await send(url, 'GET', '/health/live')).status, 200)
})

t.test('a body behind Upgrade: h2c arrives through nginx', { skip }, async (t) => {
  const { url } = await startBehindNginx(t)
  const user = await register(url)
  const connection = await RawConnection.open(t, url)
  const body = JSON.stringify({ title: 'asked by Java' })
  for (const path of ['/api/ai/chats', '/api/ai/chats/']) {
    const { status, body: created } = await connection.ask(
      `POST ${path} HTTP/1.1\r\n${h2cHeaders}Content-Type: application/json\r\n` +
        `Authorization: Bearer ${user.token}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    t.equal(status, 201)
    t.match(JSON.parse(created), { title: 'asked by Java' })
  }
})

t.test('sockets and streams pass through nginx', { skip }, async (t) => {
  const { url } = await startBehindNginx(t)
  const user = await register(url)
  const { body: chat } = await api(url, user.token)<{ id: string }>('POST', '/api/ai/chats', {})
  for (const transport of ['websocket', 'polling']) {
    const socket = await connect(t, url, user.token, { transports: [transport] })
    t.match(await ask(socket, 'join-chat', { chatId: chat.id }), { ok: true }, transport)
    socket.close()
  }
  const stream = await fetch(`${url}/api/ai/chats/${chat.id}/messages`, {
    method: 'POST',
    headers: { ...user.headers, 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ content: 'Hello.' }),
  })
  t.match(await stream.text(), /event: message-chunk[\s\S]*event: message\n/)
})
