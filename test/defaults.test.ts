import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import type { Socket } from 'socket.io-client'
import t from 'tap'
import type { Chat } from '../schemas/chats.js'
import type { Turn } from '../schemas/messages.js'
import { backlogOf } from '../src/sockets/backlog.js'
import { api, register, startApp } from './services/app.js'
import { ask, connect, hear, record } from './services/client.js'
import { startStandIn } from './services/ollama-stand-in.js'

/*
 * Defaults of the libraries that bite, each of which fails a test when it is left in place. Those
 * of tokens, validation, passwords, undici and Redis are in the tests of what uses them.
 */

/** Stops, or goes on, reading a client's connection. */
function reading(socket: Socket, goesOn: boolean): void {
  const { ws } = socket.io.engine.transport as unknown as {
    ws: { _socket: { pause(): void; resume(): void } }
  }
  if (goesOn) ws._socket.resume()
  else ws._socket.pause()
}

t.test('a denied user does not get back in by connection state recovery', async (t) => {
  const { url } = await startApp(t)
  const user = await register(url)
  const socket = await connect(t, url, user.token, { reconnectionDelay: 50 })
  const dropped = hear(socket, 'disconnect')
  const refused = hear(socket, 'connect_error')
  socket.io.engine.close()
  await dropped
  await fetch(`${url}/api/auth/logout`, { method: 'POST', headers: user.headers })
  socket.connect()
  t.match(await refused, [{ data: { code: 'UNAUTHORIZED' } }])
})

t.test('a request that never ends is cut off', async (t) => {
  const { app, url } = await startApp(t, {}, undefined, {
    requestTimeout: 300,
    http: { connectionsCheckingInterval: 100, headersTimeout: 200 },
  })
  const slow = connectTcp(Number(new URL(url).port), '127.0.0.1')
  slow.write(
    'POST /api/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{',
  )
  const [answer] = await once(slow, 'data')
  t.match(String(answer), /^HTTP\/1.1 408 /)
  await once(slow, 'close')
  await app.close()
  const { app: usual } = await startApp(t)
  t.ok(usual.server.requestTimeout > 0, 'and by default')
})

t.test('the server closes with a WebSocket and server-sent events open', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { app, url } = await startApp(t, { OLLAMA_API_URL: standIn.url })
  const user = await register(url)
  await connect(t, url, user.token, { reconnection: false })
  const call = api(url, user.token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  const path = `/api/ai/chats/${chat.id}/messages`
  const content = 'len=9000 rate=100'
  const { body } = await call<Turn>('POST', path, { content }, { prefer: 'respond-async' })
  const stream = await fetch(`${url}${path}/${body.reply.id}/stream`, { headers: user.headers })
  const reader = stream.body?.getReader()
  await reader?.read()
  await app.close()
  let end = await reader?.read()
  while (end && !end.done) end = await reader?.read()
  t.equal(end?.done, true, 'the stream ended')
})

t.test('a socket that does not read costs little, and ends with the right text', async (t) => {
  const piece = 'paused 😀 '.repeat(1000)
  const standIn = await startStandIn({
    script: function* () {
      for (let n = 0; n < 150; n++) yield { content: piece }
    },
  })
  t.teardown(() => standIn.close())
  const { app, url } = await startApp(t, { OLLAMA_API_URL: standIn.url })
  const user = await register(url)
  const call = api(url, user.token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  const slow = await connect(t, url, user.token)
  const heard = record(slow)
  await ask(slow, 'join-chat', { chatId: chat.id })
  reading(slow, false)
  const server = app.io.sockets.sockets.get(slow.id ?? '')
  const replies: Turn[] = []
  let worst = 0
  for (let n = 0; n < 12; n++) {
    const path = `/api/ai/chats/${chat.id}/messages`
    replies.push((await call<Turn>('POST', path, { content: `${n}` })).body)
    worst = Math.max(worst, server ? backlogOf(server.conn).bytes : 0)
  }
  const sent = replies.length * piece.length * 150
  t.comment(`${sent} units were streamed; at most ${worst} waited`)
  // 64 KiB, and the one packet that went over it: here a reply's whole record.
  const wholeRecord = Buffer.byteLength(piece) * 150
  t.ok(worst < wholeRecord + 256 * 1024, 'what waits for it is bounded')
  reading(slow, true)
  for (const { reply } of replies) {
    const last = await heard.message(reply.id)
    t.equal(last.content, reply.content)
  }
})
