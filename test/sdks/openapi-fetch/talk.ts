import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { EventSourceParserStream } from 'eventsource-parser/stream'
import createClient from 'openapi-fetch'
import type { components, paths } from './generated/chat'

/* A whole conversation by openapi-fetch over the types of openapi-typescript. */

type ApiError = components['schemas']['ApiError']
type StreamEvent = components['schemas']['StreamEvent']

let token: string | undefined
const client = createClient<paths>({ baseUrl: process.env.API_URL })
client.use({
  onRequest({ request }) {
    if (token !== undefined) request.headers.set('authorization', `Bearer ${token}`)
  },
})

const username = `ada-${randomUUID()}`
const account = { username, email: `${username}@example.org`, password: randomUUID() }

function refused(error: ApiError | undefined, status: number, code: string): void {
  assert.equal(error?.statusCode, status)
  assert.equal(error.code, code)
  assert.equal(error.retryable, false)
}

/** The data of an answer that must not be an error. */
function given<T>({ data, error }: { data?: T; error?: ApiError }): T {
  assert.ok(data !== undefined, JSON.stringify(error))
  return data
}

refused((await client.GET('/api/auth/profile')).error, 401, 'UNAUTHORIZED')
const { refreshToken } = given(await client.POST('/api/auth/register', { body: account }))
const taken = await client.POST('/api/auth/register', { body: account })
refused(taken.error, 409, 'USER_TAKEN')
const pair = given(await client.POST('/api/auth/refresh', { body: { refreshToken } }))
token = pair.token
assert.equal(given(await client.GET('/api/auth/profile')).username, username)
console.log('registered, refreshed')

const chat = given(await client.POST('/api/ai/chats', { body: { title: 'A talk' } }))
const path = { chatId: chat.id }
await client.POST('/api/ai/chats')
refused((await client.POST('/api/ai/chats')).error, 429, 'RATE_LIMITED')
const missing = await client.GET('/api/ai/chats/{chatId}/messages/{messageId}', {
  params: { path: { ...path, messageId: chat.id } },
})
refused(missing.error, 404, 'MESSAGE_NOT_FOUND')
console.log('created a chat')

const messages = '/api/ai/chats/{chatId}/messages'
const header = { 'idempotency-key': randomUUID() }
const body = { content: 'I am a little sad today.' }
const turn = given(await client.POST(messages, { params: { path, header }, body }))
assert.equal(turn.reply.status, 'complete')
assert.match(turn.reply.content, /sad/)
const repeated = given(await client.POST(messages, { params: { path, header }, body }))
assert.equal(repeated.reply.id, turn.reply.id)
const other = await client.POST(messages, {
  params: { path, header },
  body: { content: 'Another.' },
})
refused(other.error, 409, 'IDEMPOTENCY_KEY_REUSED')
console.log('sent and got the whole reply')

/** Reads a reply's events: its chunks from `offset` on, and the record that ends it. */
async function read(stream: ReadableStream<BufferSource> | null, from: number, stopAt = Infinity) {
  assert.ok(stream)
  let text = ''
  const events = stream
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream())
  for await (const { event, id, data } of events) {
    const frame = { event, id, data: JSON.parse(data) } as StreamEvent
    if (frame.event === 'message-chunk') {
      assert.equal(frame.data.offset, from + text.length)
      text += frame.data.delta
    } else if (frame.event === 'message' && frame.data.role === 'assistant') {
      return { text, reply: frame.data }
    }
    if (text.length >= stopAt) break
  }
  return { text }
}

const sent = await client.POST(messages, {
  params: { path },
  body: { content: 'My computer never listens to me.' },
  headers: { accept: 'text/event-stream' },
  parseAs: 'stream',
})
const streamed = await read(given(sent), 0)
assert.equal(streamed.text, streamed.reply?.content)
console.log('sent and heard the reply as it grew')

const later = await client.POST(messages, {
  params: { path, header: { prefer: 'respond-async' } },
  body: { content: 'Men are all alike.' },
})
assert.equal(later.response.status, 202)
const { reply } = given(later)
assert.match(later.response.headers.get('location') ?? '', new RegExp(reply.id))
const streamPath = '/api/ai/chats/{chatId}/messages/{messageId}/stream'
const replyPath = { ...path, messageId: reply.id }
const first = await client.GET(streamPath, { params: { path: replyPath }, parseAs: 'stream' })
const { text: begun } = await read(first.response.body, 0, 10)
const second = await client.GET(streamPath, {
  params: { path: replyPath, query: { epoch: 1, offset: begun.length } },
  parseAs: 'stream',
})
const rest = await read(second.response.body, begun.length)
assert.equal(begun + rest.text, rest.reply?.content)
console.log('sent, left and rejoined')

const stopping = given(
  await client.POST(messages, {
    params: { path, header: { prefer: 'respond-async' } },
    body: { content: 'They are always bugging us.' },
  }),
)
const stopped = given(
  await client.POST('/api/ai/chats/{chatId}/messages/{messageId}/stop', {
    params: { path: { ...path, messageId: stopping.reply.id } },
  }),
)
assert.equal(stopped.status, 'stopped')
console.log('stopped a reply')

const seqs: number[] = []
let before: string | undefined
do {
  const query = { limit: 3, ...(before && { before }) }
  const page = given(await client.GET(messages, { params: { path, query } }))
  seqs.unshift(...page.messages.map((message) => message.seq))
  before = page.nextCursor ?? undefined
} while (before)
assert.deepEqual(seqs, [1, 2, 3, 4, 5, 6, 7, 8])
console.log('paged')

const deleted = await client.DELETE('/api/ai/chats/{chatId}', { params: { path } })
assert.equal(deleted.response.status, 204)
refused((await client.POST(messages, { params: { path }, body })).error, 404, 'CHAT_NOT_FOUND')
console.log('deleted the chat')
