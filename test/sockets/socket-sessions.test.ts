import { setTimeout as delay } from 'node:timers/promises'
import { io } from 'socket.io-client'
import t, { type Test } from 'tap'
import type { SignedIn, TokenPair } from '../../schemas/auth.js'
import type { Chat } from '../../schemas/chats.js'
import type { ActiveReply } from '../../schemas/events.js'
import type { Message } from '../../schemas/messages.js'
import { sessionKey } from '../../src/cache/keys.js'
import { api, register, startApp, testPassword } from '../services/app.js'
import { ask, connect, hear, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { endSession, sessionEnds } from '../services/end-session.js'
import { eventually } from '../services/eventually.js'
import { standInReply } from '../services/ollama-stand-in.js'

const long = 'len=90000 rate=100'

/** A client of Socket.io's polling in nothing but requests. */
async function poll(url: string) {
  const path = `${url}/socket.io/?EIO=4&transport=polling`
  const opened = await (await fetch(path)).text()
  const { sid } = JSON.parse(opened.slice(1)) as { sid: string }
  return {
    /** Sends packets in one body. @returns the status of the answer. */
    send: async (packets: readonly string[]) => {
      const body = packets.join('\x1e')
      return (await fetch(`${path}&sid=${sid}`, { method: 'POST', body })).status
    },
    /** What waits for this client. */
    async receive() {
      const response = await fetch(`${path}&sid=${sid}`)
      return { status: response.status, packets: (await response.text()).split('\x1e') }
    },
  }
}

const connectPacket = (token: string) => `40${JSON.stringify({ token })}`

t.test('a connection that asks for thousands of sockets is closed and gets none', async (t) => {
  const { url, app } = await startApp(t)
  const { token } = await register(url)
  let made = 0
  app.io.on('connection', () => {
    made += 1
  })
  const client = await poll(url)
  const answered = client.send(Array.from({ length: 2788 }, () => connectPacket(token)))
  await answered.catch((error: unknown) => t.comment(`the request was cut: ${error}`))
  await eventually('the connection is closed', () => app.io.engine.clientsCount === 0)
  t.ok(made <= 1, `${made} sockets`)
  t.equal(app.io.sockets.sockets.size, 0)
})

t.test('a second CONNECT on one connection is refused while the first is checked', async (t) => {
  const { url, app } = await startApp(t)
  const { token } = await register(url)
  let checked = 0
  const { findSession } = app.store
  app.store.findSession = (id) => {
    checked += 1
    return findSession(id)
  }
  const client = await poll(url)
  const received = client.receive()
  await client.send([connectPacket(token), connectPacket('x'), connectPacket(token)])
  const { packets } = await received
  const sockets = packets.filter((packet) => packet.startsWith('40'))
  const refusals = packets.filter((packet) => packet.startsWith('44'))
  t.ok(sockets.length <= 1, packets.join(' '))
  t.match(refusals[0], /BAD_REQUEST/)
  t.ok(checked <= 1, 'what is refused waits for nothing')
  await eventually('the connection is closed', () => app.io.engine.clientsCount === 0)
})

t.test('a connection whose socket is refused is told why and closed at once', async (t) => {
  const { url, app } = await startApp(t)
  await register(url)
  const client = await poll(url)
  const received = client.receive()
  await client.send([connectPacket('bad')])
  t.match((await received).packets[0], /^44.*UNAUTHORIZED/)
  await eventually('the connection is closed', () => app.io.engine.clientsCount === 0)
})

t.test('a connection that asks for a namespace that is not there is closed', async (t) => {
  const { url, app } = await startApp(t)
  const { token } = await register(url)
  const socket = io(`${url}/other`, {
    auth: { token },
    transports: ['websocket'],
    reconnection: false,
    forceNew: true,
  })
  t.teardown(() => socket.disconnect())
  const [error] = await hear(socket, 'connect_error')
  t.match(error, { message: 'Invalid namespace' })
  await eventually('the connection is closed', () => app.io.engine.clientsCount === 0)
})

t.test('a connection whose socket has left is closed', async (t) => {
  const { url, app } = await startApp(t)
  const { token } = await register(url)
  const client = await poll(url)
  const received = client.receive()
  await client.send([connectPacket(token)])
  t.match((await received).packets[0], /^40\{"sid"/)
  t.equal(app.io.sockets.sockets.size, 1)
  await client.send(['41'])
  await eventually('the connection is closed', () => app.io.engine.clientsCount === 0)
})

for (const code of sessionEnds) {
  t.test(`a socket whose session ends is told ${code} and disconnected for good`, async (t) => {
    const { url, app } = await startApp(t)
    const user = await register(url)
    const socket = await connect(t, url, user.token)
    const ended = hear(socket, 'session-ended')
    const gone = hear(socket, 'disconnect')
    await endSession(code, { app, url }, user)
    t.same(await ended, [{ code }])
    t.same((await gone)[0], 'io server disconnect', 'a stock client does not come back')
    t.equal(socket.active, false)
    await eventually('it is gone', () => app.io.engine.clientsCount === 0)
  })
}

t.test('an event of an ended session is refused though no message of the end came', async (t) => {
  const { url, app, user, newChat } = await startConversation(t)
  const chatId = await newChat()
  const socket = await connect(t, url, user.token)
  const { sessionId } = await app.sessions.authenticate(user.token)
  const ended = hear(socket, 'session-ended')
  const gone = hear(socket, 'disconnect')
  await app.store.deleteSession(sessionId)
  await app.cache.delete(sessionKey(sessionId).key)
  // What was known of the session is believed for a second.
  await delay(1001)
  t.match(await ask(socket, 'chat-message', { chatId, content: 'len=10' }), {
    ok: false,
    error: { code: 'LOGGED_OUT', retryable: false },
  })
  t.same(await ended, [{ code: 'LOGGED_OUT' }])
  await gone
  t.same(await app.store.listMessages(chatId, 10), [], 'nothing was stored')
})

t.test('a socket is told that its token expires, and stays with a newer one', async (t) => {
  const { url } = await startApp(t, { JWT_EXPIRES_IN: '4s' })
  const user = await register(url)
  const socket = await connect(t, url, user.token)
  socket.on('disconnect', (reason) => t.fail(`disconnected: ${reason}`))
  let { refreshToken } = user
  let token = user.token
  for (let n = 0; n < 3; n++) {
    const [warning] = (await hear(socket, 'token-expiring')) as [{ expiresAt: string }]
    const { exp } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    t.equal(Date.parse(warning.expiresAt), exp * 1000)
    const pair = await api(url)<TokenPair>('POST', '/api/auth/refresh', { refreshToken })
    ;({ token, refreshToken } = pair.body)
    const renewed = await ask(socket, 'authenticate', {
      token: n === 1 ? `Bearer ${token}` : token,
    })
    t.equal(renewed.ok, true)
    t.ok(renewed.expiresAt > warning.expiresAt, `${renewed.expiresAt} is later`)
  }
  socket.off('disconnect')
})

t.test('authenticate takes a token of the same session alone', async (t) => {
  const { url } = await startApp(t)
  const [user, other] = [await register(url), await register(url)]
  const { username } = user.user
  const login = { username, password: testPassword }
  const again = await api(url)<SignedIn>('POST', '/api/auth/login', login)
  const socket = await connect(t, url, user.token)
  for (const token of [other.token, again.body.token, 'x', '']) {
    const answer = await ask(socket, 'authenticate', { token })
    t.match(answer, { ok: false, error: { code: token ? 'UNAUTHORIZED' : 'VALIDATION_FAILED' } })
  }
  t.match(await ask(socket, 'authenticate', { token: user.token }), { ok: true })
})

t.test(
  'a socket whose token expires is closed as by a network, and an old token is refused',
  async (t) => {
    const { url } = await startApp(t, { JWT_EXPIRES_IN: '2s' })
    const user = await register(url)
    const socket = await connect(t, url, user.token, { reconnectionDelay: 50 })
    const gone = hear(socket, 'disconnect')
    const refused = hear(socket, 'connect_error')
    t.equal((await gone)[0], 'transport close', 'after which clients connect again by themselves')
    t.match(await refused, [{ data: { code: 'TOKEN_EXPIRED', retryable: false } }])
  },
)

for (const transport of ['websocket', 'polling']) {
  t.test(`a stock client lives through five expiries in mid-reply, by ${transport}`, (t) =>
    fiveExpiries(t, transport),
  )
}

/** It does what its documentation says and no more: `auth` is a function, and it rejoins on `connect`. */
async function fiveExpiries(t: Test, transport: string) {
  const { url, user, standIn } = await startConversation(t, { JWT_EXPIRES_IN: '2s' })
  let { refreshToken } = user
  const refresh = async (): Promise<string> => {
    const pair = await api(url)<TokenPair>('POST', '/api/auth/refresh', { refreshToken })
    refreshToken = pair.body.refreshToken
    return pair.body.token
  }
  const { body: chat } = await api(url, await refresh())<Chat>('POST', '/api/ai/chats', {})
  const socket = io(url, {
    auth: (give) => {
      // The server may be gone when the test is over.
      refresh().then(
        (token) => give({ token }),
        () => give({}),
      )
    },
    transports: [transport],
    forceNew: true,
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
  })
  t.teardown(() => socket.disconnect())
  const reasons: string[] = []
  socket.on('disconnect', (reason) => reasons.push(reason))
  await hear(socket, 'connect')

  const content = 'len=100000 rate=50'
  let text = ''
  let gaps = 0
  socket.on('message-chunk', ({ offset, delta }) => {
    if (offset <= text.length) text += delta.slice(text.length - offset)
    else gaps += 1
  })
  const sent = await ask(socket, 'chat-message', { chatId: chat.id, content })
  const messageId: string = sent.reply.id
  socket.on('connect', () => {
    const asked = { chatId: chat.id, messageId, epoch: 1, offset: text.length }
    // At once, not in a promise: frames may follow the answer in the same turn.
    socket.emit('join-chat', asked, ({ active: [reply] = [] }: { active?: ActiveReply[] }) => {
      if (reply) text = text.slice(0, reply.offset) + reply.text
    })
  })
  await eventually('five expiries', () => reasons.length >= 5)
  t.notOk(reasons.includes('io server disconnect'), reasons.join(', '))
  const path = `/api/ai/chats/${chat.id}/messages/${messageId}/stop`
  const { body: end } = await api(url, await refresh())<Message>('POST', path)
  t.equal(end.status, 'stopped')
  t.equal(gaps, 0)
  t.ok(standInReply(content).startsWith(end.content))
  t.ok(text.length > 200 && end.content.startsWith(text), 'no character was lost or doubled')
  t.equal(standIn.callsOf('/api/chat').length, 1, 'the reply was generated once')
}

t.test('a session that ends in mid-reply says so on the socket; the reply goes on', async (t) => {
  const { url, app, user, newChat, standIn } = await startConversation(t)
  const chatId = await newChat()
  const socket = await connect(t, url, user.token)
  const { reply } = await ask(socket, 'chat-message', { chatId, content: long })
  const heard = record(socket)
  await heard.chunk(reply.id)
  const ended = hear(socket, 'session-ended')
  await api(url, user.token)('POST', '/api/auth/logout')
  t.same(await ended, [{ code: 'LOGGED_OUT' }])
  await standIn.chatCall(1)
  t.equal(app.generations.counts.running, 1)
})
