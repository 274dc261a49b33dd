import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { ChatWithMessages } from '../../schemas/chats.js'
import type { Message } from '../../schemas/messages.js'
import { api } from '../services/app.js'
import { connect, hear, record } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { connectDeaf, followDeaf } from '../services/deaf-socket.js'
import { eventually } from '../services/eventually.js'
import { standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { type ServerProcess, startServer } from '../services/server-process.js'

/** A connection that has sent `bytes`, and what it then received. */
async function sendPart(t: { teardown(end: () => void): void }, url: string, bytes: string) {
  const socket: Socket = connectTcp(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => socket.destroy())
  const part = { socket, received: '' }
  socket.on('data', (data) => {
    part.received += data
  })
  // The server may cut it off; what it had received is what counts.
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(bytes)
  return part
}

/** Asks the process to end, and resolves when it has begun to. */
async function terminate(server: ServerProcess) {
  const ended = server.end('SIGTERM')
  await eventually('it goes down', () =>
    server.lines.some((line) => line.includes('shutting down')),
  )
  return { ended }
}

t.test('SIGTERM: not ready, nothing new, all told, handed over, 0, whoever hangs on', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const settings = {
    DATA_DIR: t.testdir(),
    OLLAMA_API_URL: standIn.url,
    LOG_LEVEL: 'info',
    SHUTDOWN_GRACE_MS: '4000',
  }
  const first = await startServer(settings)
  t.teardown(() => first.end('SIGKILL'))
  const { url } = first
  const { host } = new URL(url)
  const { user, newChat, post, messagesOf } = await converse(url)

  // Two run, since no more of one user do; three wait.
  const contents = [700, 800].map((length) => `len=${length} rate=60`)
  contents.push('len=100', 'len=200', 'len=300')
  const replies: Message[] = []
  for (const content of contents) {
    replies.push((await post(await newChat(), { content })).body.reply)
  }
  const [running] = replies
  if (!running) return t.fail('nothing runs')
  const socket = await connect(t, url, user.token, { reconnection: false })
  const heard = record(socket)
  socket.emit('join-chat', { chatId: running.chatId })
  await heard.chunk(running.id)

  // Those who would keep it from ending.
  const stream = `${messagesOf(running.chatId)}/${running.id}/stream`
  const deaf = [
    (await connectDeaf(url, user.token, running.chatId)).socket,
    await followDeaf(url, user.token, stream),
  ]
  t.teardown(() => {
    for (const one of deaf) one.destroy()
  })
  await sendPart(t, url, '')
  const request = (path: string, body: string) =>
    [
      `POST ${path} HTTP/1.1`,
      `Host: ${host}`,
      `Authorization: Bearer ${user.token}`,
      'Content-Type: application/json',
      `Content-Length: ${body.length}`,
      '',
      body,
    ].join('\r\n')
  const body = JSON.stringify({ content: 'late' })
  const send = request(messagesOf(running.chatId), body)
  await sendPart(t, url, send.slice(0, -5))
  const late = await sendPart(t, url, send.slice(0, -5))
  const probe = await sendPart(t, url, `GET /health/ready HTTP/1.1\r\nHost: ${host}\r\n`)

  const gone = hear(socket, 'disconnect')
  const { ended } = await terminate(first)
  late.socket.write(send.slice(-5))
  probe.socket.write('\r\n')
  t.equal((await gone)[0], 'transport close', 'after which clients connect again')
  t.equal(await ended, 0)
  t.match(late.received, /^HTTP\/1\.1 503 /)
  t.match(late.received, /\r\nretry-after: \d+\r\n/i)
  t.match(late.received, /"code":"SHUTTING_DOWN"/)
  t.match(probe.received, /^HTTP\/1\.1 503 /)
  t.match(probe.received, /"status":"shutting-down"/)

  const calls = standIn.callsOf('/api/chat').length
  t.equal(calls, 2)
  const second = await startServer(settings)
  t.teardown(() => second.end('SIGKILL'))
  const again = api(second.url, user.token)
  for (const [n, { chatId }] of replies.entries()) {
    const content = standInReply(contents[n] ?? '')
    await eventually('the reply goes on by itself', async () => {
      const { body } = await again<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
      return body.messages[1]?.status === 'complete' && body.messages[1].content === content
    })
  }
  const begun = standIn
    .callsOf('/api/chat')
    .slice(calls)
    .map((call) => call.body.messages.at(-1)?.role)
  t.same(begun.sort(), ['assistant', 'assistant', 'user', 'user', 'user'], 'two were gone on with')
  t.equal(heard.messages.length, 0, 'nobody was told of an end that was none')
})

t.test('an Ollama that hangs keeps it neither from starting nor from ending', async (t) => {
  const hang = () => {}
  const standIn = await startStandIn()
  const hanging = await startStandIn({
    routes: { '/api/tags': hang, '/api/ps': hang, '/api/show': hang, '/api/version': hang },
  })
  t.teardown(() => standIn.close())
  t.teardown(() => hanging.close())
  const settings = { DATA_DIR: t.testdir(), LOG_LEVEL: 'info', START_TIMEOUT_MS: '8000' }
  const first = await startServer({
    ...settings,
    OLLAMA_API_URL: standIn.url,
    USER_MAX_CONCURRENT: '4',
  })
  t.teardown(() => first.end('SIGKILL'))
  const { user, newChat, post, read } = await converse(first.url)
  const contents = [50, 60, 70].map((rate) => `len=400 rate=${rate}`)
  const replies: Message[] = []
  for (const content of contents) {
    replies.push((await post(await newChat(), { content })).body.reply)
  }
  for (const { chatId } of replies) {
    await eventually('its text is kept', async () => {
      return (await read(chatId)).messages[1]?.content !== ''
    })
  }
  await first.end('SIGKILL')

  // Longer than the test would wait.
  const SHUTDOWN_GRACE_MS = '600000'
  const second = await startServer({
    ...settings,
    OLLAMA_API_URL: hanging.url,
    SHUTDOWN_GRACE_MS,
  })
  t.teardown(() => second.end('SIGKILL'))
  t.equal((await fetch(`${second.url}/health/live`)).status, 200)
  const { ended } = await terminate(second)
  t.equal(await ended, 0)

  const third = await startServer({ ...settings, OLLAMA_API_URL: standIn.url })
  t.teardown(() => third.end('SIGKILL'))
  const again = api(third.url, user.token)
  for (const [n, { chatId }] of replies.entries()) {
    const content = standInReply(contents[n] ?? '')
    await eventually('the reply goes on by itself', async () => {
      const { body } = await again<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
      return body.messages[1]?.status === 'complete' && body.messages[1].content === content
    })
  }
})

t.test('a stream that looks for its reply while the server goes down ends', async (t) => {
  const { app, url, user, newChat, post, messagesOf } = await startConversation(t)
  const chatId = await newChat()
  const { reply } = (await post(chatId, { content: 'len=9000 rate=100' })).body
  await eventually(
    'it runs',
    () => app.generations.reader.live(reply.id)?.row.status === 'streaming',
  )
  // Where there are other servers, what was read arrives once nobody here runs it any more.
  const { listActiveReplies } = app.store
  let closed: Promise<unknown> = Promise.resolve()
  app.store.listActiveReplies = async (id) => {
    const rows = await listActiveReplies(id)
    await closed
    return rows
  }
  closed = eventually('the reply is handed over', () => !app.generations.reader.live(reply.id))
    // And with it everything that waits for it.
    .then(() => delay(300))
  const stream = await fetch(`${url}${messagesOf(chatId)}/${reply.id}/stream`, {
    headers: user.headers,
  })
  await app.close()
  t.match(await stream.text(), /^:/, 'it ended, and was not cut off')
})
