import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { EventSourceParserStream } from 'eventsource-parser/stream'
import {
  type ApiError,
  createChat,
  deleteChat,
  getMessage,
  getProfile,
  getStreamMessageUrl,
  listMessages,
  refreshSession,
  registerUser,
  type StreamEvent,
  sendMessage,
  stopMessage,
} from './generated/chat'

/* A whole conversation by the fetch client of orval, whose base URL is in its configuration. */

let token: string | undefined
const authorized = (headers: Record<string, string> = {}): RequestInit => ({
  headers: { ...headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
})

const username = `ada-${randomUUID()}`
const account = { username, email: `${username}@example.org`, password: randomUUID() }

function refused(answer: { status: number; data: unknown }, status: number, code: string): void {
  assert.equal(answer.status, status)
  const error = answer.data as ApiError
  assert.equal(error.code, code)
  assert.equal(error.retryable, false)
}

const nobody = await getProfile()
assert.ok(nobody.status === 401)
assert.equal(nobody.data.code, 'UNAUTHORIZED')

const signedIn = await registerUser(account)
assert.ok(signedIn.status === 201)
refused(await registerUser(account), 409, 'USER_TAKEN')
const pair = await refreshSession({ refreshToken: signedIn.data.refreshToken })
assert.ok(pair.status === 200)
token = pair.data.token
const profile = await getProfile(authorized())
assert.ok(profile.status === 200)
assert.equal(profile.data.username, username)
console.log('registered, refreshed')

const chat = await createChat({ title: 'A talk' }, authorized())
assert.ok(chat.status === 201)
const chatId = chat.data.id
await createChat({}, authorized())
refused(await createChat({}, authorized()), 429, 'RATE_LIMITED')
refused(await getMessage(chatId, chatId, authorized()), 404, 'MESSAGE_NOT_FOUND')
console.log('created a chat')

const headers = { 'idempotency-key': randomUUID() }
const body = { content: 'I am a little sad today.' }
const turn = await sendMessage(chatId, body, authorized(headers))
assert.ok(turn.status === 201)
assert.equal(turn.data.reply.status, 'complete')
assert.match(turn.data.reply.content, /sad/)
const repeated = await sendMessage(chatId, body, authorized(headers))
assert.ok(repeated.status === 201)
assert.equal(repeated.data.reply.id, turn.data.reply.id)
const other = await sendMessage(chatId, { content: 'Another.' }, authorized(headers))
refused(other, 409, 'IDEMPOTENCY_KEY_REUSED')
console.log('sent and got the whole reply')

const inBackground = () => authorized({ prefer: 'respond-async' })

/** Reads a reply's events by `fetch`: orval's functions parse whole answers as JSON. */
async function read(messageId: string, from: number, stopAt = Infinity) {
  const url = getStreamMessageUrl(chatId, messageId, { epoch: 1, offset: from })
  const { body } = await fetch(url, authorized())
  const stream: ReadableStream<BufferSource> | null = body
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

const later = await sendMessage(chatId, { content: 'Men are all alike.' }, inBackground())
assert.ok(later.status === 202)
const { reply } = later.data
assert.match(later.headers.get('location') ?? '', new RegExp(reply.id))
const { text: begun } = await read(reply.id, 0, 10)
const rest = await read(reply.id, begun.length)
assert.equal(begun + rest.text, rest.reply?.content)
console.log('sent, left and rejoined')

const bugging = { content: 'They are always bugging us.' }
const stopping = await sendMessage(chatId, bugging, inBackground())
assert.ok(stopping.status === 202)
const stopped = await stopMessage(chatId, stopping.data.reply.id, authorized())
assert.ok(stopped.status === 200)
assert.equal(stopped.data.status, 'stopped')
console.log('stopped a reply')

const seqs: number[] = []
let before: string | undefined
do {
  const page = await listMessages(chatId, { limit: 3, ...(before && { before }) }, authorized())
  assert.ok(page.status === 200)
  seqs.unshift(...page.data.messages.map((message) => message.seq))
  before = page.data.nextCursor ?? undefined
} while (before)
assert.deepEqual(seqs, [1, 2, 3, 4, 5, 6])
console.log('paged')

const deleted = await deleteChat(chatId, authorized())
assert.ok(deleted.status === 204)
refused(await sendMessage(chatId, body, authorized()), 404, 'CHAT_NOT_FOUND')
console.log('deleted the chat')
