import t from 'tap'
import type { ApiError } from '../../schemas/common.js'
import type { Turn } from '../../schemas/messages.js'
import { AppError } from '../../src/errors.js'
import type { MessageRow } from '../../src/stores/store.js'
import { readEvents } from '../../web/client/events.js'
import { api, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { type Script, standInModel } from '../services/ollama-stand-in.js'
import { listed } from '../services/stand-in-models.js'

t.test('both records are stored before Ollama is called, and before it is said', async (t) => {
  const atCall: MessageRow[][] = []
  let look: () => Promise<MessageRow[]> = async () => []
  const script: Script = async function* () {
    atCall.push(await look())
    yield { content: 'yes' }
  }
  const conversation = await startConversation(t, {}, { script })
  const { app, url, user, newChat, post } = conversation
  const socket = await connect(t, url, user.token)
  const chatId = await newChat()
  look = () => app.store.listMessages(chatId, 10)
  const order: string[] = []
  const { appendTurn } = app.store
  app.store.appendTurn = async (turn) => {
    const stored = await appendTurn(turn)
    // As a database may take.
    await new Promise((resolve) => setTimeout(resolve, 50))
    order.push('stored')
    return stored
  }
  const { message, reply } = await ask(socket, 'chat-message', { chatId, content: 'one' })
  order.push('acknowledged')
  t.equal(reply.id.slice(0, 8), message.id.slice(0, 8), 'side by side in an index')
  const { status } = await post(chatId, { content: 'two' })
  order.push('acknowledged')
  t.equal(status, 202)
  t.same(order, ['stored', 'acknowledged', 'stored', 'acknowledged'])
  await conversation.send(chatId, { content: 'three' })
  t.match(atCall[0], [
    { role: 'user', content: 'one', status: 'complete' },
    { role: 'assistant', content: '', status: 'streaming' },
  ])
  t.equal(atCall.length, 3)
})

t.test('a reply that can begin at once is stored as begun; what is said is the same', async (t) => {
  // Where several servers share the places, whether it can is not known yet.
  const { app, url, user, newChat } = await startConversation(t, { REDIS_URL: '' })
  const stored: MessageRow['status'][] = []
  const moves: string[] = []
  const { appendTurn, updateReply } = app.store
  app.store.appendTurn = async (turn) => {
    stored.push(turn.reply.status)
    return appendTurn(turn)
  }
  app.store.updateReply = async (id, condition, change) => {
    moves.push(`${id} ${change.status}`)
    return updateReply(id, condition, change)
  }
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  const { reply: first } = await ask(socket, 'chat-message', {
    chatId,
    content: 'len=200 rate=400',
  })
  const { reply: second } = await ask(socket, 'chat-message', { chatId, content: 'len=9' })
  t.same([first.status, second.status], ['queued', 'queued'])
  await heard.message(first.id)
  await heard.message(second.id)
  t.same(stored, ['streaming', 'queued'])
  t.same(moves, [`${first.id} complete`, `${second.id} streaming`, `${second.id} complete`])
  const starts = heard.starts.map(({ id, status, position }) => ({ id, status, position }))
  t.same(starts, [
    { id: first.id, status: 'streaming', position: undefined },
    { id: second.id, status: 'queued', position: 1 },
    { id: second.id, status: 'streaming', position: undefined },
  ])
})

t.test('a place to run whose message could not be stored is another’s', async (t) => {
  const { app, url, user, newChat } = await startConversation(t, { OLLAMA_MAX_CONCURRENT: '1' })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  const { appendTurn } = app.store
  app.store.appendTurn = async () => {
    app.store.appendTurn = appendTurn
    throw new AppError('STORAGE_FULL')
  }
  const lost = await ask(socket, 'chat-message', { chatId, content: 'len=9' })
  t.match(lost, { ok: false, error: { code: 'STORAGE_FULL' } })
  const { reply } = await ask(socket, 'chat-message', { chatId, content: 'len=9' })
  t.match(await heard.message(reply.id), { status: 'complete' })
})

t.test('a turn whose storing was never told runs as soon as it is sent again', async (t) => {
  const { app, standIn, newChat, post, send } = await startConversation(t)
  const chatId = await newChat()
  const key = { 'idempotency-key': 'again' }
  const { appendTurn, findTurn } = app.store
  app.store.appendTurn = async (turn) => {
    await appendTurn(turn)
    throw new AppError('STORE_UNAVAILABLE')
  }
  const refused = await post<ApiError>(chatId, { content: 'len=5' }, key)
  t.match(refused, { status: 503, body: { code: 'STORE_UNAVAILABLE' } })

  // It would be looked for by and by too, but not yet.
  let isSending = true
  app.store.findTurn = async (...asked) => (isSending ? findTurn(...asked) : undefined)
  const again = await post(chatId, { content: 'len=5' }, key)
  isSending = false
  t.equal(again.status, 202)
  app.store.appendTurn = appendTurn
  // One reply of a chat runs after the other.
  t.match(await send(chatId, { content: 'len=1' }), { status: 201 })
  t.equal((await app.store.listMessages(chatId, 10))[1]?.status, 'complete')
  t.equal(standIn.callsOf('/api/chat').length, 2)
})

t.test('a turn that is stored for longer than its lease lasts is not taken over', async (t) => {
  const { app, standIn, url, user, newChat } = await startConversation(t, { LEASE_MS: '300' })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  await ask(socket, 'join-chat', { chatId })
  const { appendTurn, findLapsedReplies } = app.store
  // As if the whole process had been stopped meanwhile.
  app.store.renewLeases = async () => []
  let passes = 0
  let goOn = () => {}
  const isFoundTwice = new Promise<void>((resolve) => (goOn = resolve))
  app.store.findLapsedReplies = async (...asked) => {
    const rows = await findLapsedReplies(...asked)
    // The pass before has done what it does by then.
    if (rows.length > 0 && ++passes === 2) goOn()
    return rows
  }
  app.store.appendTurn = async (turn) => {
    const stored = await appendTurn(turn)
    await isFoundTwice
    return stored
  }
  const { message, reply } = await ask(socket, 'chat-message', { chatId, content: 'len=5' })
  await heard.until(() => heard.messages.find(({ id }) => id === reply.id))
  t.same(
    heard.messages.map(({ id }) => id),
    [message.id, reply.id],
  )
  t.equal(standIn.callsOf('/api/chat').length, 1)
})

t.test(
  'of two sends of one key at once, in two chats, the later finds the first stored',
  async (t) => {
    const { app, newChat, post } = await startConversation(t)
    const chats = [await newChat(), await newChat()]
    const { appendTurn, findTurn } = app.store
    const steps: string[] = []
    app.store.findTurn = async (...asked) => {
      steps.push('looked for')
      return findTurn(...asked)
    }
    app.store.appendTurn = async (turn) => {
      const stored = await appendTurn(turn)
      steps.push('stored')
      return stored
    }
    const key = { 'idempotency-key': 'one' }
    const answers = await Promise.all(chats.map((chatId) => post(chatId, { content: 'hi' }, key)))
    t.same(answers.map(({ status }) => status).sort(), [202, 409])
    t.same(steps, ['looked for', 'stored', 'looked for'])
  },
)

t.test('a message that is repeated while its reply ends is told once', async (t) => {
  let end = () => {}
  const mayEnd = new Promise<void>((resolve) => (end = resolve))
  const script: Script = async function* () {
    yield { content: 'yes' }
    await mayEnd
  }
  const conversation = await startConversation(t, {}, { script })
  const { app, standIn, url, user, newChat, post } = conversation
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  await ask(socket, 'join-chat', { chatId })
  const key = { 'idempotency-key': 'again' }
  const input = { content: 'one' }
  const { body: first } = await post(chatId, input, key)
  // Begun in the store as well, where places are shared.
  await heard.chunk(first.reply.id)
  const { findTurn } = app.store
  app.store.findTurn = async (...asked) => {
    const turn = await findTurn(...asked)
    t.equal(turn?.reply.status, 'streaming')
    end()
    // The answer is read late.
    await heard.until(() => heard.messages.find(({ id }) => id === first.reply.id))
    return turn
  }
  const { status, body: again } = await post(chatId, input, key)
  t.equal(status, 202)
  t.equal(again.reply.id, first.reply.id)
  app.store.findTurn = findTurn
  // Whatever else was told of it came before this.
  const { body: next } = await post(chatId, { content: 'two' })
  await heard.until(() => heard.messages.find(({ id }) => id === next.reply.id))
  const ids = [first.message.id, first.reply.id, next.message.id, next.reply.id]
  t.same(
    heard.messages.map(({ id }) => id),
    ids,
  )
  t.equal(standIn.callsOf('/api/chat').length, 2)
})

t.test('a hundred equal sends at once, in every way: one turn and one call', async (t) => {
  const { standIn, url, user, newChat, post, send, read, messagesOf } = await startConversation(t)
  const sockets = await Promise.all([
    connect(t, url, user.token),
    connect(t, url, user.token, { transports: ['polling'] }),
  ])
  const chatId = await newChat()
  const input = { content: 'len=300 rate=300', options: { temperature: 0.5 } }
  const key = { 'idempotency-key': 'the same' }
  const ways = [
    async () => (await send(chatId, input, key)).body,
    async () => (await post(chatId, input, key)).body,
    async () => {
      const { body } = await fetch(url + messagesOf(chatId), {
        method: 'POST',
        headers: {
          ...user.headers,
          ...key,
          accept: 'text/event-stream',
          'content-type': 'application/json',
        },
        body: JSON.stringify(input),
      })
      const records: Turn['message'][] = []
      if (body) {
        for await (const { event, data } of readEvents(body)) {
          if (event === 'message') records.push(JSON.parse(data))
        }
      }
      return { message: records[0], reply: records[1] }
    },
    ...sockets.map((socket) => () => {
      return ask(socket, 'chat-message', {
        chatId,
        ...input,
        clientMessageId: key['idempotency-key'],
      })
    }),
  ]
  const replyResponses = await Promise.all(
    Array.from({ length: 100 }, (_, n) => (ways[n % ways.length] ?? (() => undefined))()),
  )
  t.equal(new Set(replyResponses.map((turn) => `${turn?.message?.id} ${turn?.reply?.id}`)).size, 1)
  t.equal((await read(chatId)).messages.length, 2)
  t.equal(standIn.callsOf('/api/chat').length, 1)
  for (const other of [
    { content: 'len=300 rate=301' },
    { ...input, content: `${input.content} ` },
    { content: input.content },
    { ...input, options: { temperature: 0.6 } },
    { ...input, model: 'stand-in' },
  ]) {
    const refused = await post<ApiError>(chatId, other, key)
    t.match(refused, { status: 409, body: { code: 'IDEMPOTENCY_KEY_REUSED' } })
  }
  const stranger = await converse(url)
  const theirs = await stranger.post(await stranger.newChat(), input, key)
  t.equal(theirs.status, 202, 'a key is its user’s own')
})

t.test(
  'the same key gives the same turn after a restart, and after its chat moved on',
  async (t) => {
    const DATA_DIR = t.testdir()
    const first = await startConversation(t, { DATA_DIR })
    const { standIn, user, newChat, messagesOf } = first
    const chatId = await newChat()
    const key = { 'idempotency-key': 'kept' }
    const sent = await first.send(chatId, { content: 'len=50' }, key)
    for (let n = 0; n < 3; n++) await first.send(chatId, { content: `len=${n + 1}` })
    await first.call('PATCH', `/api/ai/chats/${chatId}`, { model: 'stand-in', system: 'New.' })
    await first.close()
    const second = await startApp(t, { DATA_DIR, OLLAMA_API_URL: standIn.url })
    const calls = standIn.callsOf('/api/chat').length
    const again = await api(second.url, user.token)<Turn>(
      'POST',
      messagesOf(chatId),
      { content: 'len=50' },
      key,
    )
    t.equal(again.status, 201)
    t.same(again.body, sent.body)
    t.equal(standIn.callsOf('/api/chat').length, calls)
  },
)

t.test('a key of a deleted chat’s message is used again in another chat', async (t) => {
  const { call, newChat, post, send } = await startConversation(t)
  const key = { 'idempotency-key': 'again' }
  const [ended, running, next, last] = [
    await newChat(),
    await newChat(),
    await newChat(),
    await newChat(),
  ]
  t.match(await send(ended, { content: 'len=5' }, key), { status: 201 })
  await call('DELETE', `/api/ai/chats/${ended}`)
  const { body } = await post(running, { content: 'len=900 rate=20' }, key)
  await call('DELETE', `/api/ai/chats/${running}`)
  const sent = await send(next, { content: 'len=7' }, key)
  t.match(sent, { status: 201, body: { reply: { chatId: next, status: 'complete' } } })
  t.not(sent.body.reply.id, body.reply.id, 'a reply’s id never comes again')
  await call('DELETE', `/api/ai/chats/${next}`)
  t.match(await send(last, { content: 'len=7' }, key), { body: { reply: { chatId: last } } })
})

t.test('a message with a known model does not wait for one whose model is not known', async (t) => {
  let isHanging = false
  let hasHung = false
  let hung = () => {}
  const hangs = new Promise<void>((resolve) => {
    hung = () => {
      hasHung = true
      resolve()
    }
  })
  const { standIn, newChat, post, send } = await startConversation(
    t,
    {},
    {
      routes: {
        '/api/tags': (_request, response) => {
          if (isHanging) return hung()
          response.writeHead(200, { 'content-type': 'application/json' })
          response.end(JSON.stringify({ models: [listed(standInModel)] }))
        },
      },
    },
  )
  const chatId = await newChat()
  t.match(await send(chatId, { content: 'len=5' }), { status: 201 })
  isHanging = true
  let unknown = post<ApiError>(chatId, { content: 'len=5', model: 'unknown' })
  // A list that was had a moment ago says that there is no such model: it is not asked for anew.
  for (await Promise.race([hangs, unknown]); !hasHung; await Promise.race([hangs, unknown])) {
    unknown = post<ApiError>(chatId, { content: 'len=5', model: 'unknown' })
  }
  const known = await Promise.all([
    post(chatId, { content: 'len=6' }, { 'idempotency-key': 'one' }),
    post(chatId, { content: 'len=7' }),
  ])
  t.same(
    known.map(({ status }) => status),
    [202, 202],
  )
  isHanging = false
  await standIn.stop()
  const refused = await unknown
  t.match(refused.body.code, /^MODEL_/, 'what could not be asked is blamed')
})
