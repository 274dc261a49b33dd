import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { io } from 'socket.io-client'
import t, { type Test } from 'tap'
import type { Chat } from '../../schemas/chats.js'
import type { ApiError } from '../../schemas/common.js'
import type { Turn } from '../../schemas/messages.js'
import { api, register, startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'

/** Two servers as one where there is a Redis, and else one under two names. */
async function twoServers(t: Test, settings: Record<string, string>) {
  const first = await startConversation(t, { JWT_SECRET: 'x'.repeat(64), ...settings })
  const isShared = process.env.REDIS_URL !== undefined && process.env.MONGODB_URI !== undefined
  const { url } = isShared
    ? await startApp(t, {
        JWT_SECRET: 'x'.repeat(64),
        OLLAMA_API_URL: first.standIn.url,
        DATA_DIR: first.dataDir,
        ...settings,
      })
    : first
  return { ...first, urls: [first.url, url] as const }
}

t.test('a user has so many requests a minute, over REST and sockets together', async (t) => {
  const { urls, user } = await twoServers(t, { RATE_LIMIT_USER_REQUESTS_PER_MINUTE: '20' })
  const [a, b] = urls.map((url) => api(url, user.token))
  const socket = await connect(t, urls[0], user.token)
  for (let n = 0; n < 5; n++) {
    t.equal((await a?.('GET', '/api/auth/profile'))?.status, 200)
    t.equal((await b?.('GET', '/api/ai/chats'))?.status, 200)
    t.match(await ask(socket, 'leave-chat', {}), {
      ok: false,
      error: { code: 'VALIDATION_FAILED' },
    })
  }
  // Servers tell each other their counts in the background.
  let refused: { status: number; headers: Headers; body: ApiError } | undefined
  for (let n = 0; n < 60 && !refused; n++) {
    const answer = await a?.<ApiError>('GET', '/api/auth/profile')
    if (answer?.status === 429) refused = answer
  }
  t.match(refused, { status: 429, body: { code: 'RATE_LIMITED' } })
  const seconds = Number(refused?.headers.get('retry-after'))
  t.ok(seconds >= 1 && seconds <= 60, `Retry-After: ${seconds}`)
  await eventually('the other server knows of it', async () => {
    return (await b?.('GET', '/api/ai/chats'))?.status === 429
  })
  const event = await ask(socket, 'leave-chat', {})
  t.match(event, { ok: false, error: { code: 'RATE_LIMITED', retryable: true } })

  const other = await register(urls[0])
  const bystander = await api(urls[0], other.token)('GET', '/api/auth/profile')
  t.equal(bystander.status, 200, 'others are not limited')
  t.equal((await a?.('POST', '/api/auth/logout'))?.status, 204, 'who floods may log out')
})

t.test('a user has so many streams open, of both kinds', async (t) => {
  const { urls, call, user, newChat, messagesOf, post } = await twoServers(t, {
    RATE_LIMIT_USER_STREAMS: '3',
    USER_MAX_CONCURRENT: '10',
  })
  const chatId = await newChat()
  const { body } = await post(chatId, { content: 'len=100000 rate=20' })
  const path = `${messagesOf(chatId)}/${body.reply.id}/stream`
  const streams: IncomingMessage[] = []
  const open = async (url: string) => {
    const headers = { ...user.headers, accept: 'text/event-stream' }
    const [response] = (await once(get(url + path, { headers, agent: false }), 'response')) as [
      IncomingMessage,
    ]
    streams.push(response)
    t.teardown(() => response.destroy())
    return response.resume().statusCode
  }
  t.equal(await open(urls[0]), 200)
  t.equal(await open(urls[1]), 200)
  const otherChat = await newChat()
  const sent = fetch(urls[0] + messagesOf(otherChat), {
    method: 'POST',
    headers: {
      ...user.headers,
      accept: 'text/event-stream',
      'content-type': 'application/json',
    },
    body: JSON.stringify({ content: 'len=100000 rate=20' }),
  })
  const stream = await sent
  t.equal(stream.status, 200)

  t.equal(await open(urls[1]), 429)
  const refused = await call<ApiError>(
    'POST',
    messagesOf(otherChat),
    { content: 'len=10' },
    {
      accept: 'text/event-stream',
    },
  )
  t.match(refused, { status: 429, body: { code: 'RATE_LIMITED' } })
  t.ok(Number(refused.headers.get('retry-after')) >= 1)
  const { messages } = (
    await call<Chat & { messages: object[] }>('GET', `/api/ai/chats/${otherChat}`)
  ).body
  t.equal(messages.length, 2, 'nothing was stored')
  const waiting = await call<Turn>('POST', messagesOf(await newChat()), { content: 'len=10' })
  t.equal(waiting.status, 201, 'a request that waits for its reply is no stream')

  streams[0]?.destroy()
  await eventually('one that is closed makes room', async () => (await open(urls[1])) === 200)
  await stream.body?.cancel()
  await eventually('and one that was sent with', async () => (await open(urls[0])) === 200)
  t.equal(await open(urls[0]), 429)
})

t.test('a user has so many sockets open', async (t) => {
  const { urls, user } = await twoServers(t, { RATE_LIMIT_USER_SOCKETS: '3' })
  const sockets = [
    await connect(t, urls[0], user.token),
    await connect(t, urls[1], user.token),
    await connect(t, urls[0], user.token, { transports: ['polling'] }),
  ]
  const refused = async (url: string) => {
    const socket = io(url, { auth: { token: user.token }, forceNew: true, reconnection: false })
    t.teardown(() => socket.disconnect())
    return new Promise<Error | undefined>((resolve) => {
      socket.once('connect_error', resolve).once('connect', () => resolve(undefined))
    })
  }
  for (const url of urls) {
    t.match(await refused(url), { data: { code: 'RATE_LIMITED', retryable: true } })
  }
  const { user: other } = await converse(urls[0])
  t.ok((await connect(t, urls[0], other.token)).connected, 'others are not limited')
  sockets[0]?.disconnect()
  await eventually('one that is closed makes room', async () => !(await refused(urls[1])))
})

t.test('a user keeps so many chats', async (t) => {
  const { urls, user, call, newChat } = await twoServers(t, { RATE_LIMIT_USER_CHATS: '5' })
  const create = (url: string) => api(url, user.token)<ApiError>('POST', '/api/ai/chats', {})
  const chatId = await newChat()
  for (let n = 0; n < 4; n++) t.equal((await create(urls[n % 2] ?? '')).status, 201)
  for (const url of urls) {
    const { status, body, headers } = await create(url)
    t.match(
      { status, body },
      { status: 429, body: { code: 'RATE_LIMITED', message: /5 chats/, retryable: false } },
    )
    t.equal(headers.get('retry-after'), null, 'waiting does not help')
  }
  t.equal((await call('DELETE', `/api/ai/chats/${chatId}`)).status, 204)
  t.equal((await create(urls[1])).status, 201)
  t.equal((await create(urls[0])).status, 429)
})

t.test('chats of before are counted, and 0 turns the limit off', async (t) => {
  const { dataDir, user, newChat, close } = await startConversation(t, {
    JWT_SECRET: 'x'.repeat(64),
    DATA_DIR: t.testdir(),
    REDIS_URL: '',
    RATE_LIMIT_USER_CHATS: '0',
  })
  for (let n = 0; n < 5; n++) t.ok(await newChat())
  await close()
  const settings = { JWT_SECRET: 'x'.repeat(64), DATA_DIR: dataDir, REDIS_URL: '' }
  const { url } = await startApp(t, { ...settings, RATE_LIMIT_USER_CHATS: '6' })
  const create = () => api(url, user.token)('POST', '/api/ai/chats', {})
  t.equal((await create()).status, 201)
  t.equal((await create()).status, 429)
})
