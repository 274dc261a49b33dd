import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import t from 'tap'
import type { SignedIn } from '../../schemas/auth.js'
import type { ApiError } from '../../schemas/common.js'
import { api, testPassword } from '../services/app.js'
import { connect, hear, record } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInReply } from '../services/ollama-stand-in.js'

const long = 'len=9000 rate=200'

t.test('logging out everywhere ends all sessions and sockets, and stops what runs', async (t) => {
  const conversation = await startConversation(t)
  const { standIn, app, url, user, call, newChat, post, messagesOf } = conversation
  const { username } = user.user
  const login = { username, password: testPassword }
  const phone = (await api(url)<SignedIn>('POST', '/api/auth/login', login)).body
  const bystander = await converse(url)
  const theirs = (await bystander.post(await bystander.newChat(), { content: long })).body.reply

  const chatIds = [await newChat(), await newChat(), await newChat()]
  const sockets = await Promise.all(
    [user.token, phone.token].map((token) => connect(t, url, token, { reconnection: false })),
  )
  const [first] = sockets
  if (!first) return t.fail('no socket')
  const heard = record(first)
  // The third of a user waits.
  for (const chatId of chatIds) await post(chatId, { content: long })
  first.emit('join-chat', { chatId: chatIds[0] })
  await heard.until(() => heard.chunks[3])
  const upstreams = [await standIn.chatCall(2), await standIn.chatCall(3)]

  const gone = sockets.map((socket) => hear(socket, 'disconnect'))
  t.equal((await call('POST', '/api/auth/logout-everywhere')).status, 204)
  await Promise.all([...gone, ...upstreams.map(({ whenClosed }) => whenClosed)])
  t.same(app.generations.counts, { waiting: 0, running: 1 }, 'another’s goes on')
  for (const token of [user.token, phone.token]) {
    t.equal((await api(url, token)('GET', '/api/auth/profile')).status, 401)
  }
  for (const { refreshToken } of [user, phone]) {
    t.equal((await api(url)('POST', '/api/auth/refresh', { refreshToken })).status, 401)
  }

  const back = await api(url)<SignedIn>('POST', '/api/auth/login', login)
  t.equal(back.status, 200)
  const again = api(url, back.body.token)
  for (const [n, chatId] of chatIds.entries()) {
    const { body } = await again<{ messages: { status: string; content: string }[] }>(
      'GET',
      `/api/ai/chats/${chatId}`,
    )
    const [message, reply] = body.messages
    t.match(message, { content: long, status: 'complete' })
    t.equal(reply?.status, 'stopped')
    t.ok(standInReply(long).startsWith(reply?.content ?? '-'))
    t.equal(reply?.content === '', n === 2, 'with what each had')
  }
  const path = `${messagesOf(theirs.chatId)}/${theirs.id}/stop`
  t.match(await bystander.call('POST', path), { body: { status: 'stopped' } })
})

t.test('deleting the account stops what runs and leaves nothing behind', async (t) => {
  const { standIn, app, url, user, call, newChat, post } = await startConversation(t)
  const bystander = await converse(url)
  const theirChat = await bystander.newChat()
  await bystander.send(theirChat, { content: 'len=10' })
  const chatIds = [await newChat(), await newChat(), await newChat()]
  for (const chatId of chatIds) await post(chatId, { content: long })
  const socket = await connect(t, url, user.token, { reconnection: false })
  const upstreams = [await standIn.chatCall(2), await standIn.chatCall(3)]

  const gone = hear(socket, 'disconnect')
  const answer = await call('DELETE', '/api/auth/profile', { password: testPassword })
  t.equal(answer.status, 204)
  await Promise.all([gone, ...upstreams.map(({ whenClosed }) => whenClosed)])
  await eventually('nothing runs', () => app.generations.counts.running === 0)
  t.equal((await call('GET', '/api/auth/profile')).status, 401)
  const { username, email } = user.user
  for (const login of [{ username }, { email }]) {
    const refused = await api(url)('POST', '/api/auth/login', { ...login, password: testPassword })
    t.match(refused, { status: 401, body: { code: 'BAD_CREDENTIALS' } })
  }
  const { refreshToken } = user
  t.equal((await api(url)('POST', '/api/auth/refresh', { refreshToken })).status, 401)
  t.same(await app.store.listChats(user.user.id, 10), [])
  for (const chatId of chatIds) t.same(await app.store.listMessages(chatId, 10), [])
  t.equal((await bystander.read(theirChat)).messages.length, 2, 'of another nothing is gone')
  const anew = { username, email, password: testPassword }
  t.equal((await api(url)('POST', '/api/auth/register', anew)).status, 201, 'the name is free')
})

t.test('only who knows the password deletes the account, and guesses are counted', async (t) => {
  const { call } = await startConversation(t, { RATE_LIMIT_LOGIN_FAILURES: '3' })
  const remove = (body?: object) => call<ApiError>('DELETE', '/api/auth/profile', body)
  t.equal((await remove()).status, 400)
  t.equal((await remove({})).status, 400)
  t.equal((await remove({ password: testPassword, sure: true })).status, 400)
  for (const password of ['wrong', `${testPassword} `, 'wrong again']) {
    t.match(await remove({ password }), { status: 401, body: { code: 'BAD_CREDENTIALS' } })
  }
  const locked = await remove({ password: testPassword })
  t.match(locked, { status: 429, body: { code: 'RATE_LIMITED' } })
  t.equal((await call('GET', '/api/auth/profile')).status, 200, 'it is still there')
})

t.test('what was asked before the account went adds nothing after it', async (t) => {
  const { app, url, user, call, newChat } = await startConversation(t)
  const chatId = await newChat()
  const begin = async (path: string, body: string) => {
    const socket = connectTcp(Number(new URL(url).port), '127.0.0.1')
    t.teardown(() => socket.destroy())
    await once(socket, 'connect')
    socket.write(
      [
        `POST ${path} HTTP/1.1`,
        `Host: ${new URL(url).host}`,
        `Authorization: Bearer ${user.token}`,
        'Content-Type: application/json',
        `Content-Length: ${body.length}`,
        '',
        body.slice(0, -1),
      ].join('\r\n'),
    )
    return async () => {
      const answered = once(socket, 'data')
      socket.write(body.slice(-1))
      return String((await answered)[0])
    }
  }
  const creating = await begin('/api/ai/chats', '{"title":"late"}')
  const sending = await begin(`/api/ai/chats/${chatId}/messages`, '{"content":"late"}')
  t.equal((await call('DELETE', '/api/auth/profile', { password: testPassword })).status, 204)
  t.match(await creating(), /^HTTP\/1\.1 401 /)
  t.match(await sending(), /^HTTP\/1\.1 401 [\s\S]*ACCOUNT_DELETED/)
  t.same(await app.store.listChats(user.user.id, 10), [])
  t.same(await app.store.listMessages(chatId, 10), [])
})
