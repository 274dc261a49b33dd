import { connect as connectTls } from 'node:tls'
import t from 'tap'
import type { Chat } from '../schemas/chats.js'
import { api, register, startApp } from './services/app.js'
import { ask, connect } from './services/client.js'
import { patient, startHolding } from './services/holding-stand-in.js'
import { startNginx, withoutNginx } from './services/nginx-process.js'
import { send } from './services/raw.js'
import { h2cHeaders, RawConnection } from './services/raw-connection.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const skip = withoutNginx

async function startBehindNginx(t: Teardown, settings: Readonly<Record<string, string>> = {}) {
  const { url: direct } = await startApp(t, { TRUST_PROXY: '1', REDIS_URL: '', ...settings })
  return { ...(await startNginx(t, [direct])), direct }
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

t.test('a stream passes through nginx as it is written', { skip }, async (t) => {
  const { standIn, letGo } = await startHolding(t)
  const { url } = await startBehindNginx(t, { ...patient, OLLAMA_API_URL: standIn.url })
  const user = await register(url)
  const { body: chat } = await api(url, user.token)<Chat>('POST', '/api/ai/chats', {})
  const stream = await fetch(`${url}/api/ai/chats/${chat.id}/messages`, {
    method: 'POST',
    headers: { ...user.headers, 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ content: 'len=100' }),
  })
  let heard = ''
  for await (const bytes of stream.body ?? []) {
    heard += Buffer.from(bytes)
    // The model says no more until it has come.
    if (heard.includes('event: message-chunk')) letGo()
  }
  t.match(heard, /event: message\n[\s\S]*event: message-chunk[\s\S]*event: message\n/)
})

t.test('nginx speaks TLS 1.2 and later, and sends others there', { skip }, async (t) => {
  const { url: direct } = await startApp(t, { TRUST_PROXY: '1' })
  const { url, insecureUrl, ca } = await startNginx(t, [direct], true)
  const { status, headers } = await fetch(`${insecureUrl}/docs?x=1`, { redirect: 'manual' })
  t.match(
    { status, to: headers.get('location') },
    { status: 308, to: 'https://127.0.0.1/docs?x=1' },
  )
  const protocol = (maxVersion: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3') =>
    new Promise<string | null>((resolve, reject) => {
      const options = { ca, maxVersion, minVersion: maxVersion, ciphers: 'DEFAULT@SECLEVEL=0' }
      const socket = connectTls(Number(new URL(url).port), '127.0.0.1', options, () => {
        resolve(socket.getProtocol())
        socket.destroy()
      })
      socket.once('error', reject)
    })
  t.equal(await protocol('TLSv1.3'), 'TLSv1.3')
  t.equal(await protocol('TLSv1.2'), 'TLSv1.2')
  await t.rejects(protocol('TLSv1.1'))
})

t.test('nginx takes no body of more than 1 MiB', { skip }, async (t) => {
  const { url } = await startBehindNginx(t)
  const headers = { 'content-type': 'application/json', 'content-length': `${1024 * 1024 + 1}` }
  const connection = await RawConnection.open(t, url)
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const { status } = await connection.ask(
    `POST /api/auth/login HTTP/1.1\r\nHost: x\r\n${head.join('')}\r\n`,
  )
  t.equal(status, 413)
})
