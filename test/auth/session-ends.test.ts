import t from 'tap'
import type { TokenPair } from '../../schemas/auth.js'
import type { ApiError } from '../../schemas/common.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { readEvents } from '../../web/client/events.js'
import { api } from '../services/app.js'
import { startConversation } from '../services/conversation.js'
import { endSession, sessionEnds } from '../services/end-session.js'
import { standInReply } from '../services/ollama-stand-in.js'

const long = 'len=90000 rate=100'

type Events = ReturnType<typeof readEvents>

/** A message's reply as server-sent events. */
async function stream(url: string, token: string, content?: string): Promise<Events> {
  const { body } = await fetch(url, {
    headers: {
      accept: 'text/event-stream',
      authorization: `Bearer ${token}`,
      ...(content !== undefined && { 'content-type': 'application/json' }),
    },
    ...(content !== undefined && { method: 'POST', body: JSON.stringify({ content }) }),
  })
  if (!body) throw new Error('no body')
  return readEvents(body)
}

/** The data of the next event of a name. */
async function next<T>(events: Events, name: string): Promise<T> {
  for (;;) {
    const { done, value } = await events.next()
    if (done) throw new Error(`the stream ended without ${name}`)
    if (value.event === name) return JSON.parse(value.data) as T
  }
}

for (const code of sessionEnds) {
  t.test(`streams of a session that ends say ${code} and end`, async (t) => {
    const conversation = await startConversation(t)
    const { app, url, user, newChat, messagesOf, standIn } = conversation
    const chatId = await newChat()
    const sending = await stream(`${url}${messagesOf(chatId)}`, user.token, long)
    const { messageId } = await next<{ messageId: string }>(sending, 'message-chunk')
    const path = `${url}${messagesOf(chatId)}/${messageId}/stream`
    const joining = await stream(path, user.token)
    await next(joining, 'message-chunk')
    const call = await standIn.chatCall(1)

    await endSession(code, conversation, user)
    for (const events of [sending, joining]) {
      t.match(await next(events, 'error'), { code, message: String, retryable: false })
      t.match(await events.next(), { done: true }, 'nothing comes after it')
    }
    if (code === 'ACCOUNT_DELETED') await call.whenClosed
    else t.equal(app.generations.counts.running, 1, 'the reply goes on')
  })

  t.test(`a request that waits for its reply is answered 401 ${code}`, async (t) => {
    const conversation = await startConversation(t)
    const { app, user, newChat, send, standIn } = conversation
    const chatId = await newChat()
    const waiting = send<ApiError>(chatId, { content: long })
    await standIn.chatCall(1)
    const [, reply] = await app.store.listMessages(chatId, 2)

    await endSession(code, conversation, user)
    const { status, body } = await waiting
    t.equal(status, 401)
    t.match(body, { code, statusCode: 401, retryable: false, replyId: reply?.id })
    if (code !== 'ACCOUNT_DELETED') t.equal(app.generations.counts.running, 1, 'the reply goes on')
  })
}

t.test('what began before a token expired ends with its reply', async (t) => {
  const settings = { JWT_EXPIRES_IN: '2s' }
  const { app, url, user, newChat, messagesOf, send } = await startConversation(t, settings)
  const [first, second] = [await newChat(), await newChat()]
  const content = 'len=1200 rate=60'
  const waiting = send<Turn>(first, { content })
  const events = await stream(`${url}${messagesOf(second)}`, user.token, content)
  await next<Message>(events, 'message')
  const { expiresAt } = await app.sessions.authenticate(user.token)
  const done = await next<Message>(events, 'message')
  t.ok(Date.now() > expiresAt.getTime(), 'the token had expired')
  t.match(done, { status: 'complete', content: standInReply(content) })
  t.match(await waiting, { status: 201, body: { reply: { content: standInReply(content) } } })
})

t.test('a session that ends takes streams along whose token had expired', async (t) => {
  const settings = { JWT_EXPIRES_IN: '2s' }
  const conversation = await startConversation(t, settings)
  const { app, url, user, newChat, messagesOf } = conversation
  const events = await stream(`${url}${messagesOf(await newChat())}`, user.token, long)
  const { expiresAt } = await app.sessions.authenticate(user.token)
  while (Date.now() <= expiresAt.getTime()) await next(events, 'message-chunk')
  const { refreshToken } = user
  const pair = await api(url)<TokenPair>('POST', '/api/auth/refresh', { refreshToken })
  await endSession('LOGGED_OUT', conversation, pair.body)
  t.match(await next(events, 'error'), { code: 'LOGGED_OUT' })
})

t.test('a message whose session ends while its body arrives is not stored', async (t) => {
  let begun = () => {}
  const isBegun = new Promise<void>((resolve) => {
    begun = resolve
  })
  const conversation = await startConversation(t, {}, {}, (app) => {
    // After the token was checked, before the body is read.
    app.addHook('preParsing', async ({ url }) => {
      if (url.endsWith('/messages')) begun()
    })
  })
  const { app, url, user, newChat, messagesOf } = conversation
  const chatId = await newChat()
  let finish = () => {}
  const isEnded = new Promise<void>((resolve) => {
    finish = resolve
  })
  async function* body() {
    yield Buffer.from('{"content":')
    await isEnded
    yield Buffer.from('"len=10"}')
  }
  const answered = fetch(url + messagesOf(chatId), {
    method: 'POST',
    headers: { ...user.headers, 'content-type': 'application/json' },
    body: body(),
    duplex: 'half',
  } as RequestInit)
  await isBegun
  await endSession('LOGGED_OUT', conversation, user)
  finish()
  const response = await answered
  t.match(await response.json(), { statusCode: 401, code: 'LOGGED_OUT' })
  t.same(await app.store.listMessages(chatId, 10), [])
})
