/**
 * Says something and prints the reply as it comes, with a stock socket.io-client:
 *
 *   node examples/node/talk.js 'Men are all alike.'
 *
 * CHAT_URL (http://localhost:3000), CHAT_USER and CHAT_PASSWORD (a new account without them), CHAT_MODEL.
 * The reply survives a server that dies and comes back. Ctrl-C stops it.
 */
import { randomUUID } from 'node:crypto'
import { io } from 'socket.io-client'
import { ChatFollower } from './chat-follower.js'

const {
  CHAT_URL: url = 'http://localhost:3000',
  CHAT_USER,
  CHAT_PASSWORD,
  CHAT_MODEL,
} = process.env
const content = process.argv[2] ?? 'Men are all alike.'
let tokens = {}

/** Ends with the server's own words. */
function fail({ code = 'BUG', message }) {
  process.stderr.write(`${code}: ${message}\n`)
  process.exit(1)
}

async function post(path, body) {
  let answer
  try {
    answer = await fetch(new URL(path, url), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(tokens.token && { authorization: `Bearer ${tokens.token}` }),
      },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    })
  } catch {
    throw { code: 'NETWORK', message: `No server answers at CHAT_URL, ${url}.`, retryable: true }
  }
  const json = await answer.json().catch(() => ({}))
  if (answer.ok) return json
  throw json.code
    ? json
    : { code: 'NOT_THE_API', message: `CHAT_URL, ${url}, is another server's.` }
}

/** Says it again until the server has answered for good. */
async function until(attempt) {
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (!error.retryable) throw error
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  }
}

async function signIn() {
  if (CHAT_USER) {
    return post('/api/auth/login', { username: CHAT_USER, password: CHAT_PASSWORD ?? '' })
  }
  const username = `guest-${randomUUID().slice(0, 8)}`
  const email = `${username}@example.org`
  return post('/api/auth/register', { username, email, password: randomUUID() })
}

let refreshing

/** Spends the refresh token: within ten seconds it may be sent again, so a lost answer harms nobody. */
function refresh() {
  const { refreshToken } = tokens
  refreshing ??= until(() => post('/api/auth/refresh', { refreshToken }))
    .then((pair) => {
      tokens = pair
    })
    .finally(() => {
      refreshing = undefined
    })
  return refreshing
}

async function talk() {
  if (!/^https?:\/\/./.test(url)) {
    const message = `CHAT_URL must be like http://localhost:3000, not ${url}.`
    throw { code: 'BAD_SETTING', message }
  }
  tokens = await signIn()
  const chat = await post('/api/ai/chats', CHAT_MODEL ? { model: CHAT_MODEL } : {})
  const socket = io(url, {
    auth: (give) => give({ token: tokens.token }),
    transports: ['websocket'],
    reconnectionDelayMax: 2000,
  })
  const ask = async (event, payload) => {
    const answer = await socket
      .timeout(5000)
      .emitWithAck(event, payload)
      .catch(() => undefined)
    if (answer?.ok) return answer
    throw answer?.error ?? { code: 'NETWORK', message: 'The connection broke.', retryable: true }
  }

  let printed = ''
  let replyId
  const follower = new ChatFollower(chat.id, {
    join: (payload) => socket.timeout(5000).emitWithAck('join-chat', payload),
    refuse: fail,
    show({ text, status, position, ended }, id) {
      replyId = id
      if (position) process.stderr.write(`in the queue: ${position}\n`)
      // What was printed may have been replaced by another server's run.
      if (!text.startsWith(printed)) printed = process.stdout.write('\n') && ''
      process.stdout.write(text.slice(printed.length))
      printed = text
      if (!ended) return
      process.stdout.write(`\n(${status})\n`)
      socket.disconnect()
      process.exit(status === 'complete' || status === 'stopped' ? 0 : 1)
    },
  })
  socket.on('connect', () => follower.onConnect())
  socket.on('disconnect', () => follower.onDisconnect())
  socket.onAny((name, payload) => follower.onEvent(name, payload))

  socket.on('token-expiring', async () => {
    await refresh().catch(fail)
    // Where this is not heard, the socket is closed and connects with the new token.
    await ask('authenticate', { token: tokens.token }).catch(() => {})
  })
  socket.on('session-ended', ({ code }) => fail({ code, message: 'The session has ended.' }))
  socket.on('connect_error', async ({ data }) => {
    // Without data the network failed: socket.io-client tries again by itself.
    if (!data) return
    if (data.code === 'TOKEN_EXPIRED') await refresh().catch(fail)
    else if (!data.retryable) fail(data)
    setTimeout(() => socket.connect(), 500)
  })
  process.on('SIGINT', () => {
    if (!replyId) process.exit(130)
    ask('stop-message', { chatId: chat.id, messageId: replyId }).catch(fail)
  })

  const clientMessageId = randomUUID()
  await until(() => ask('chat-message', { chatId: chat.id, content, clientMessageId }))
}

talk().catch(fail)
