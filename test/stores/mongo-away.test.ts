import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { MongoClient } from 'mongodb'
import t, { type Test } from 'tap'
import type { Chat, ChatWithMessages } from '../../schemas/chats.js'
import type { Turn } from '../../schemas/messages.js'
import { connectMongo } from '../../src/stores/mongo/connection.js'
import {
  type Answer,
  api,
  outsideServices,
  register,
  startApp,
  testPassword,
} from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { startServer } from '../services/server-process.js'
import { deterministic } from '../services/stand-in-script.js'
import { type Fault, startTcpProxy } from '../services/tcp-proxy.js'

if (process.env.MONGODB_URI) {
  for (const fault of ['silent', 'cut'] as const) {
    t.test(`MongoDB ${fault}: 503, and running replies go on`, (t) => isAway(t, fault))
  }
  t.test('MongoDB cut after it applied a write: a retry makes no duplicate', retries)
  for (const [write, text] of [
    ['its mark', 'deletedFrom'],
    ['its messages', 'deletes'],
    ['the chat', 'delete\0\x06\0\0\0chats'],
  ] as const) {
    t.test(`a deletion whose answer is lost at ${write} is done and announced once`, (t) =>
      losesDeletion(t, text),
    )
  }
  t.test(
    'an interrupted deletion of an account is finished by the server that began it',
    cutsAccount,
  )
  t.test('an interrupted deletion of a chat is finished by the server that began it', cutsChat)
  t.test(
    'a turn that is interrupted before its last write is completed when it is sent again',
    cutsTurn,
  )
  t.test('a client whose heartbeat hangs is closed and connected again', revives)
  for (const text of ['buildInfo', 'schema', 'createIndexes', 'deletedFrom']) {
    t.test(`a start during which the answer to ${text} is lost succeeds`, (t) => starts(t, text))
  }
  t.test('SIGTERM while MongoDB is silent: the log names what is still open', terminates)
  // Each write of a turn, by a text that only its command contains.
  for (const [write, text] of [
    ['the message and its reply', 'fingerprint'],
    ['the chat’s count', 'messageCount'],
    ['the beginning of the reply', 'findAndModify'],
    ['the end of the reply', 'completedAt'],
  ] as const) {
    t.test(`a turn whose answer is lost at ${write} is stored and announced once`, (t) =>
      loses(t, text),
    )
  }
} else t.test('MongoDB away', { skip: 'MONGODB_URI is not set' }, async () => {})

async function start(t: Test, name: string) {
  const proxy = await startTcpProxy(t, outsideServices(`${name}-${Date.now()}`).MONGODB_URI ?? '')
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { url } = await startApp(t, { MONGODB_URI: proxy.url, OLLAMA_API_URL: standIn.url })
  const user = await register(url)
  const call = api(url, user.token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  return { proxy, standIn, url, user, call, path: `/api/ai/chats/${chat.id}`, chatId: chat.id }
}

/** Repeats a request until the database answers again. */
async function untilBack<T>(request: () => Promise<Answer<T>>): Promise<Answer<T>> {
  let answer = await request()
  await eventually('the database is back', async () => {
    if (answer.status !== 503) return true
    answer = await request()
    return false
  })
  return answer
}

async function isAway(t: Test, fault: Fault) {
  const { proxy, standIn, url, user, call, path, chatId } = await start(t, fault)
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  let isRepaired = false
  let whole = ''
  standIn.setScript(async function* (asked, model) {
    if (asked.messages.at(-1)?.content !== 'go on') return yield* deterministic(asked, model)
    for (let n = 0; !isRepaired; n++) {
      whole += `${n} `
      yield { content: `${n} ` }
      yield { wait: delay(5) }
    }
  })
  const content = 'go on'
  const prefer = { prefer: 'respond-async' }
  const running = await call<Turn>('POST', `${path}/messages`, { content }, prefer)
  const { id } = running.body.reply
  await heard.chunk(id)

  proxy.fail(fault)
  const key = { 'idempotency-key': 'once' }
  const send = () => call<Turn>('POST', `${path}/messages`, { content: 'len=10' }, key)
  // What waited for the database without a bound would never be answered.
  const answers = await Promise.all([
    call('GET', path),
    call('GET', '/api/ai/chats?limit=5'),
    send(),
  ])
  for (const { status, body, headers } of answers) {
    t.match({ status, body }, { status: 503, body: { code: 'STORE_UNAVAILABLE' } })
    t.ok(Number(headers.get('retry-after')) > 0)
  }
  // More than comes while a lease lasts.
  const before = heard.text(id).length
  await heard.until(() => (heard.text(id).length > before + 6000 ? true : undefined))
  const ready = await fetch(`${url}/health/ready`)
  t.equal(ready.status, 503)
  t.match(await ready.json(), { status: 'down', services: { db: { status: 'down' } } })

  proxy.repair()
  isRepaired = true
  t.match(await heard.message(id), { status: 'complete', content: whole })
  t.equal(heard.text(id), whole, 'heard without a gap')
  const sent = await untilBack(send)
  t.match(sent, { status: 201, body: { reply: { content: standInReply('len=10') } } })
  const { body } = await call<ChatWithMessages>('GET', path)
  t.same(
    body.messages.map((message) => message.content),
    [content, whole, 'len=10', standInReply('len=10')],
  )
}

async function retries(t: Test) {
  const { proxy, standIn, call, path } = await start(t, 'deaf')
  const key = { 'idempotency-key': 'once' }
  const send = () => call<Turn>('POST', `${path}/messages`, { content: 'len=40' }, key)
  proxy.fail('deaf')
  t.match(await send(), { status: 503, body: { code: 'STORE_UNAVAILABLE' } })
  proxy.repair()
  const sent = await untilBack(send)
  t.match(sent, { status: 201, body: { reply: { content: standInReply('len=40') } } })
  const { body } = await call<ChatWithMessages>('GET', path)
  t.equal(body.messages.length, 2)
  t.equal(standIn.callsOf('/api/chat').length, 1)
}

async function loses(t: Test, text: string) {
  const { proxy, standIn, url, user, call, path, chatId } = await start(t, 'lost')
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const lost = proxy.loseAnswerTo(text)
  const key = { 'idempotency-key': 'once' }
  const content = 'len=400 rate=400'
  const send = () => call<Turn>('POST', `${path}/messages`, { content }, key)
  const sent = await untilBack(send)
  await lost
  t.match(sent, { status: 201, body: { reply: { content: standInReply(content) } } })
  const { id } = sent.body.reply
  t.match(await heard.message(id), { status: 'complete', content: standInReply(content) })
  t.equal(heard.text(id), standInReply(content), 'heard without a gap')
  const { body } = await call<ChatWithMessages>('GET', path)
  t.equal(body.messages.length, 2)
  t.equal(standIn.callsOf('/api/chat').length, 1)
}

async function starts(t: Test, text: string) {
  const uri = outsideServices(`starting-${Date.now()}`).MONGODB_URI ?? ''
  const proxy = await startTcpProxy(t, uri)
  const lost = proxy.loseAnswerTo(text)
  const { url } = await startApp(t, { MONGODB_URI: proxy.url })
  await lost
  t.ok((await register(url)).token)
}

/** What a command that deletes messages contains. */
const deletesMessages = 'delete\0\x09\0\0\0messages'

/** The database behind the proxy, over a connection past it. */
async function behind(t: Test, proxyUrl: string) {
  const client = new MongoClient(process.env.MONGODB_URI ?? '')
  t.teardown(() => client.close(true))
  return client.db(new URL(proxyUrl).pathname.slice(1))
}

async function cutsAccount(t: Test) {
  const { proxy, url, user, call, path } = await start(t, 'cut-account')
  await call('POST', `${path}/messages`, { content: 'len=10' })
  const db = await behind(t, proxy.url)
  t.equal(await db.collection('messages').countDocuments(), 2)
  const cut = proxy.failBefore(deletesMessages, 'cut')
  const body = { password: testPassword }
  t.match(await call('DELETE', '/api/auth/profile', body), { status: 503 })
  await cut
  t.equal(await db.collection('messages').countDocuments(), 2, 'its messages are still there')
  proxy.repair()
  await eventually('everything is gone', async () => {
    const left = ['users', 'sessions', 'chats', 'messages'].map((name) =>
      db.collection(name).countDocuments(),
    )
    return (await Promise.all(left)).every((count) => count === 0)
  })
  t.equal((await call('GET', '/api/ai/chats')).status, 401)
  const { username, email } = user.user
  const again = { username, email, password: testPassword }
  t.equal((await api(url)('POST', '/api/auth/register', again)).status, 201, 'its names are free')
}

async function cutsChat(t: Test) {
  const { proxy, url, user, call, path, chatId } = await start(t, 'cut-chat')
  const { body: turn } = await call<Turn>('POST', `${path}/messages`, { content: 'len=10' })
  const socket = await connect(t, url, user.token)
  const told: unknown[] = []
  socket.on('chat-deleted', (event) => told.push(event))
  const db = await behind(t, proxy.url)
  const cut = proxy.failBefore(deletesMessages, 'cut')
  t.match(await call('DELETE', path), { status: 503 })
  await cut
  proxy.repair()
  await eventually('the server has MongoDB again', async () => {
    const stream = await call('GET', `${path}/messages/${turn.reply.id}/stream`)
    return stream.status === 404
  })
  await eventually('its messages are gone', async () => {
    return (await db.collection('messages').countDocuments()) === 0
  })
  await eventually('and then the chat', async () => {
    return (await db.collection('chats').countDocuments()) === 0
  })
  await eventually('the user’s devices are told', () => told.length > 0)
  t.equal((await call('DELETE', path)).status, 204, 'who asks again is told of its success')
  t.equal((await call('DELETE', path)).status, 404)
  await ask(socket, 'leave-chat', { chatId })
  t.same(told, [{ chatId }], 'once')
}

async function cutsTurn(t: Test) {
  const { proxy, call, path, chatId } = await start(t, 'cut-turn')
  const cut = proxy.failBefore('messageCount', 'cut')
  const key = { 'idempotency-key': 'once' }
  const send = () => call<Turn>('POST', `${path}/messages`, { content: 'len=10' }, key)
  t.match(await send(), { status: 503 })
  await cut
  proxy.repair()
  const sent = await untilBack(send)
  t.match(sent, { status: 201, body: { reply: { content: standInReply('len=10') } } })
  const moved = { id: chatId, title: 'len=10', messageCount: 2 }
  t.match((await call<ChatWithMessages>('GET', path)).body, moved)
}

async function revives(t: Test) {
  const uri = outsideServices(`stuck-${Date.now()}`).MONGODB_URI ?? ''
  const proxy = await startTcpProxy(t, uri)
  const limits = 'heartbeatFrequencyMS=500&connectTimeoutMS=300&serverSelectionTimeoutMS=300'
  let stuck = 0
  const { client, close } = await connectMongo(
    `${proxy.url}?${limits}`,
    Date.now() + 60_000,
    () => {
      stuck += 1
      proxy.repair()
    },
  )
  t.teardown(close)
  const db = client.db()
  proxy.fail('cut')
  await t.rejects(db.command({ ping: 1 }))
  const opened = once(client, 'open')
  // The last event of a monitor that hangs.
  client.emit('serverHeartbeatStarted', { connectionId: 'a server', awaited: false } as never)
  await opened
  t.match(await db.command({ ping: 1 }), { ok: 1 }, 'the handle that was there before is of use')
  t.equal(stuck, 1)
}

async function losesDeletion(t: Test, text: string) {
  const { proxy, url, user, call, path, chatId } = await start(t, 'deletion')
  const { body: turn } = await call<Turn>('POST', `${path}/messages`, { content: 'len=10' })
  const socket = await connect(t, url, user.token)
  let told = 0
  socket.on('chat-deleted', (event: { chatId: string }) => {
    if (event.chatId === chatId) told += 1
  })
  /** Deletes while the first answer of MongoDB is lost, again until it is answered. */
  const deleteLosing = async (what: string) => {
    const lost = proxy.loseAnswerTo(what)
    t.match(await call('DELETE', path), { status: 503, body: { code: 'STORE_UNAVAILABLE' } })
    await lost
    return (await untilBack(() => call('DELETE', path))).status
  }
  t.equal(await deleteLosing(text), 204)
  t.equal((await call('GET', path)).status, 404)
  t.equal((await call('GET', `${path}/messages/${turn.reply.id}/stream`)).status, 404)
  t.equal((await call('DELETE', path)).status, 404)
  t.equal(await deleteLosing('deletedFrom'), 404, 'one that was gone before is not deleted again')
  await ask(socket, 'leave-chat', { chatId })
  t.equal(told, 1)
}

async function terminates(t: Test) {
  const proxy = await startTcpProxy(t, outsideServices(`ending-${Date.now()}`).MONGODB_URI ?? '')
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const server = await startServer({
    ...outsideServices(t.testdirName),
    MONGODB_URI: proxy.url,
    OLLAMA_API_URL: standIn.url,
    DATA_DIR: t.testdir(),
    SHUTDOWN_GRACE_MS: '1500',
    LOG_LEVEL: 'info',
  })
  t.teardown(() => server.end('SIGKILL'))
  const { newChat, post } = await converse(server.url)
  await post(await newChat(), { content: 'len=3000 rate=200' })
  await standIn.chatCall()
  proxy.fail('silent')
  t.equal(await server.end('SIGTERM'), 1)
  const line = server.lines.find((logged) => logged.includes('still shutting down')) ?? ''
  t.match(JSON.parse(line), {
    replies: { running: 1 },
    resources: { TCPSocketWrap: Number },
    msg: /SHUTDOWN_GRACE_MS/,
  })
}
