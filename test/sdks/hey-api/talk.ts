import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import {
  type ApiError,
  createChat,
  deleteChat,
  getMessage,
  getProfile,
  listMessages,
  type Message,
  type MessageChunk,
  refreshSession,
  registerUser,
  type SendMessageData,
  sendMessage,
  stopMessage,
  streamMessage,
} from './generated'
import { client } from './generated/client.gen'

/* A whole conversation by the SDK of @hey-api/openapi-ts. */

const baseUrl = process.env.API_URL
let token: string | undefined
client.setConfig({ baseUrl, auth: () => token })

const username = `ada-${randomUUID()}`
const account = { username, email: `${username}@example.org`, password: randomUUID() }

function refused(error: ApiError | undefined, status: number, code: string): void {
  assert.equal(error?.statusCode, status)
  assert.equal(error.code, code)
  assert.equal(error.retryable, false)
}

const nobody = await getProfile()
refused(nobody.error, 401, 'UNAUTHORIZED')

const { data: signedIn } = await registerUser({ body: account, throwOnError: true })
const taken = await registerUser({ body: account })
refused(taken.error, 409, 'USER_TAKEN')
const { refreshToken } = signedIn
const { data: pair } = await refreshSession({ body: { refreshToken }, throwOnError: true })
token = pair.token
const { data: profile } = await getProfile({ throwOnError: true })
assert.equal(profile.username, username)
console.log('registered, refreshed')

const { data: chat } = await createChat({ body: { title: 'A talk' }, throwOnError: true })
const path = { chatId: chat.id }
const full = await createChat().then(() => createChat())
refused(full.error, 429, 'RATE_LIMITED')
const missing = await getMessage({ path: { chatId: chat.id, messageId: chat.id } })
refused(missing.error, 404, 'MESSAGE_NOT_FOUND')
console.log('created a chat')

const headers = { 'idempotency-key': randomUUID() }
const body = { content: 'I am a little sad today.' }
const { data: turn } = await sendMessage({ path, body, headers, throwOnError: true })
assert.equal(turn.reply.status, 'complete')
assert.match(turn.reply.content, /sad/)
const repeated = await sendMessage({ path, body, headers, throwOnError: true })
assert.equal(repeated.data.reply.id, turn.reply.id)
const other = await sendMessage({ path, body: { content: 'Another.' }, headers })
refused(other.error, 409, 'IDEMPOTENCY_KEY_REUSED')
console.log('sent and got the whole reply')

/** Reads a reply's events: its chunks from `offset` on, and the record that ends it. */
async function read(stream: AsyncIterable<unknown>, from: number, stopAt = Infinity) {
  let text = ''
  for await (const data of stream) {
    const event = data as MessageChunk | Message
    if ('delta' in event) {
      assert.equal(event.offset, from + text.length)
      text += event.delta
    } else if (event.role === 'assistant' && event.status === 'complete') {
      return { text, reply: event }
    }
    if (text.length >= stopAt) break
  }
  return { text }
}

const sent = await client.sse.post<SendMessageData>({
  url: '/api/ai/chats/{chatId}/messages',
  path,
  body: { content: 'My computer never listens to me.' },
  headers: { accept: 'text/event-stream', 'content-type': 'application/json' },
  security: [{ scheme: 'bearer', type: 'http' }],
})
const streamed = await read(sent.stream, 0)
assert.equal(streamed.text, streamed.reply?.content)
console.log('sent and heard the reply as it grew')

const later = await sendMessage({
  path,
  body: { content: 'Men are all alike.' },
  headers: { prefer: 'respond-async' },
  throwOnError: true,
})
assert.equal(later.response.status, 202)
assert.match(later.response.headers.get('location') ?? '', new RegExp(later.data.reply.id))
const replyPath = { ...path, messageId: later.data.reply.id }
const { stream: first } = await streamMessage({ path: replyPath })
const { text: begun } = await read(first, 0, 10)
const query = { epoch: 1, offset: begun.length }
const { stream: second } = await streamMessage({ path: replyPath, query })
const rest = await read(second, begun.length)
assert.equal(begun + rest.text, rest.reply?.content)
console.log('sent, left and rejoined')

const stopping = await sendMessage({
  path,
  body: { content: 'They are always bugging us.' },
  headers: { prefer: 'respond-async' },
  throwOnError: true,
})
const { data: stopped } = await stopMessage({
  path: { ...path, messageId: stopping.data.reply.id },
  throwOnError: true,
})
assert.equal(stopped.status, 'stopped')
console.log('stopped a reply')

const seqs: number[] = []
let before: string | undefined
do {
  const query = { limit: 3, ...(before && { before }) }
  const { data: page } = await listMessages({ path, query, throwOnError: true })
  seqs.unshift(...page.messages.map((message) => message.seq))
  before = page.nextCursor ?? undefined
} while (before)
assert.deepEqual(seqs, [1, 2, 3, 4, 5, 6, 7, 8])
console.log('paged')

const deleted = await deleteChat({ path, throwOnError: true })
assert.equal(deleted.response.status, 204)
const gone = await sendMessage({ path, body })
refused(gone.error, 404, 'CHAT_NOT_FOUND')
console.log('deleted the chat')
