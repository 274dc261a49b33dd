import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import t from 'tap'
import { register, startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { h2cHeaders, RawConnection } from '../services/raw-connection.js'

const json = 'Content-Type: application/json\r\n'

t.test('a request with Upgrade: h2c is answered as if it had none', async (t) => {
  const { url } = await startApp(t)
  const connection = await RawConnection.open(t, url)
  for (const path of ['/health/live', '/socket.io/?EIO=4&transport=polling']) {
    const answer = await connection.ask(`GET ${path} HTTP/1.1\r\n${h2cHeaders}\r\n`)
    t.equal(answer.status, 200, path)
  }
  t.equal((await connection.ask(`GET /nothing HTTP/1.1\r\n${h2cHeaders}\r\n`)).status, 404)
})

t.test('a body behind Upgrade: h2c arrives, whole, in pieces or late', async (t) => {
  const { url } = await startApp(t)
  const user = await register(url)
  const connection = await RawConnection.open(t, url)
  const head = `POST /api/ai/chats HTTP/1.1\r\n${h2cHeaders}${json}Authorization: Bearer ${user.token}\r\n`
  const create = async (framing: string, ...pieces: string[]) => {
    connection.write(`${head}${framing}\r\n`)
    for (const piece of pieces) {
      // Each in a packet of its own, which the server has read before the next.
      await connection.written()
      connection.write(piece)
    }
    return connection.answer()
  }
  const body = JSON.stringify({ title: 'späte Hälfte', system: 'x'.repeat(30_000) })
  const length = `Content-Length: ${Buffer.byteLength(body)}\r\n`
  const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
  const half = body.length / 2
  for (const answer of [
    await create(length, body),
    await create(length, body.slice(0, 10), body.slice(10, half), body.slice(half)),
    await create(
      'Transfer-Encoding: chunked\r\n',
      chunk(body.slice(0, half)),
      chunk(body.slice(half)),
      chunk(''),
    ),
  ]) {
    t.equal(answer.status, 201)
    t.match(JSON.parse(answer.body), { title: 'späte Hälfte' })
  }
})

t.test('what another request asks beside its upgrade is still heard', async (t) => {
  const { url } = await startApp(t)
  const connection = await RawConnection.open(t, url)
  const head = 'Host: x\r\nconnection: close , UPGRADE\r\nupgrade: h2c\r\n'
  const answer = await connection.ask(`GET /health/live HTTP/1.1\r\n${head}\r\n`)
  t.equal(answer.status, 200)
  t.match(answer.head, /^connection: close/im)
  await connection.closed()
})

t.test('one connection may ask for an upgrade again and again', async (t) => {
  const warnings: Error[] = []
  const warn = (warning: Error) => warnings.push(warning)
  process.on('warning', warn)
  t.teardown(() => process.off('warning', warn))
  const { url } = await startApp(t)
  const connection = await RawConnection.open(t, url)
  for (let n = 0; n < 50; n++) {
    const answer = await connection.ask(`GET /health/live HTTP/1.1\r\n${h2cHeaders}\r\n`)
    if (answer.status !== 200) t.fail(`request ${n}: ${answer.head}`)
  }
  t.strictSame(warnings, [], 'nothing is left at the connection')
})

t.test('a WebSocket is opened on Socket.io’s path alone', async (t) => {
  const { url } = await startApp(t)
  const connection = await RawConnection.open(t, url)
  const webSocket =
    'Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
  const statuses = {
    '/health/live': 200,
    '/?to=/socket.io/': 200,
    '/socket.io': 404,
    '/x/socket.io/': 404,
  }
  for (const [path, expected] of Object.entries(statuses)) {
    const { status } = await connection.ask(`GET ${path} HTTP/1.1\r\n${webSocket}\r\n`)
    t.equal(status, expected, path)
  }
  const body = '{}'
  const post = `POST /api/auth/login HTTP/1.1\r\n${webSocket}${json}Content-Length: 2\r\n\r\n${body}`
  t.equal((await connection.ask(post)).status, 400, 'with its body')
  const user = await register(url)
  const socket = await connect(t, url, user.token)
  t.match(await ask(socket, 'leave-chat', {}), { ok: false })
})

t.test('a client that goes in the middle of its upgrade harms nobody', async (t) => {
  const { app, url } = await startApp(t)
  for (let n = 0; n < 20; n++) {
    const socket = connectTcp(Number(new URL(url).port), '127.0.0.1')
    await once(socket, 'connect')
    socket.write(`POST /api/auth/login HTTP/1.1\r\n${h2cHeaders}${json}Content-Length: 50\r\n\r\n{`)
    if (n % 2) socket.resetAndDestroy()
    else socket.end()
  }
  t.equal((await fetch(`${url}/health/live`)).status, 200)
  await app.close()
})
