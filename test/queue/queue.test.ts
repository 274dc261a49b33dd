import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { ApiError } from '../../schemas/common.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { readEvents } from '../../web/client/events.js'
import { api, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import type { Script } from '../services/ollama-stand-in.js'

/** What runs at Ollama at once, in all and by the first words of each prompt's parts. */
function watched(gate: Promise<unknown> = Promise.resolve()) {
  const running = new Map<string, number>()
  const most = new Map<string, number>()
  const order: string[] = []
  const count = (name: string, by: number) => {
    const now = (running.get(name) ?? 0) + by
    running.set(name, now)
    most.set(name, Math.max(most.get(name) ?? 0, now))
  }
  const script: Script = async function* ({ messages }) {
    const prompt = messages.at(-1)?.content ?? ''
    const [user = '', chat = ''] = prompt.split(' ')
    const names = ['all', user, `${user} ${chat}`]
    order.push(prompt)
    for (const name of names) count(name, 1)
    try {
      yield { content: 'yes' }
      yield { wait: gate.then(() => delay(30)) }
    } finally {
      for (const name of names) count(name, -1)
    }
  }
  return { script, most, order }
}

/** A reply that lasts until it is let go. */
function held() {
  const letGo: (() => void)[] = []
  const script: Script = async function* () {
    yield { content: 'yes' }
    yield { wait: new Promise<void>((resolve) => letGo.push(resolve)) }
  }
  return { script, letGo }
}

t.test('at Ollama: no more at once than in all, of one user, of one chat', async (t) => {
  const { script, most, order } = watched()
  const settings = { OLLAMA_MAX_CONCURRENT: '3', USER_MAX_CONCURRENT: '2' }
  const first = await startConversation(t, settings, { script })
  const users = [first, await converse(first.url), await converse(first.url)]
  const sent = users.flatMap((user, u) =>
    [0, 1, 2].map(async (c) => {
      const chatId = await user.newChat()
      const contents = [0, 1, 2].map((n) => `user${u} chat${c} ${n}`)
      const replies = await Promise.all(contents.map((content) => user.send(chatId, { content })))
      return replies.map(({ status }) => status)
    }),
  )
  t.same((await Promise.all(sent)).flat(), Array(27).fill(201))
  t.equal(order.length, 27)
  t.equal(most.get('all'), 3)
  for (const u of [0, 1, 2]) {
    t.ok((most.get(`user${u}`) ?? 9) <= 2)
    for (const c of [0, 1, 2]) t.equal(most.get(`user${u} chat${c}`), 1)
  }
})

t.test('a user with 100 waiting delays another’s first by one turn', async (t) => {
  let open = () => {}
  const gate = new Promise<void>((resolve) => {
    open = resolve
  })
  const { script, order } = watched(gate)
  const settings = { OLLAMA_MAX_CONCURRENT: '1', USER_QUEUE_MAX: '200' }
  const busy = await startConversation(t, settings, { script })
  const other = await converse(busy.url)
  const chatIds = await Promise.all(Array.from({ length: 10 }, () => busy.newChat()))
  const theirs = await other.newChat()
  await Promise.all(
    Array.from({ length: 101 }, (_, n) => {
      return busy.post(chatIds[n % 10] ?? '', { content: `busy chat${n % 10} ${n}` })
    }),
  )
  t.same(busy.app.generations.counts, { waiting: 100, running: 1 })
  await eventually('the first runs', () => order.length === 1)
  const first = other.send(theirs, { content: 'other chat' })
  await eventually('it waits', () => busy.app.generations.counts.waiting === 101)
  open()
  t.equal((await first).status, 201)
  t.equal(order.indexOf('other chat'), 2, 'after the one that ran, and the one whose turn it was')
})

t.test('past QUEUE_MAX: a clear 503, before anything is stored', async (t) => {
  const { script, letGo } = held()
  const settings = { QUEUE_MAX: '3', OLLAMA_MAX_CONCURRENT: '3', USER_MAX_CONCURRENT: '1' }
  const { app, url, user, newChat, post, read } = await startConversation(t, settings, { script })
  t.teardown(() => {
    for (const go of letGo) go()
  })
  const chatIds: string[] = []
  for (let n = 0; n < 6; n++) chatIds.push(await newChat())
  const [key, full = ''] = ['fourth', chatIds[4]]
  for (const [n, chatId] of chatIds.slice(0, 4).entries()) {
    const sent = await post(chatId, { content: `${n}` }, { 'idempotency-key': `${n}` })
    t.equal(sent.status, 202, 'one runs and three wait')
  }
  t.same(app.generations.counts, { waiting: 3, running: 1 })
  const refused = await post<ApiError>(full, { content: 'x' }, { 'idempotency-key': key })
  t.match(refused, { status: 503, body: { code: 'QUEUE_FULL', error: 'Service Unavailable' } })
  t.match(refused.headers.get('retry-after'), /^[1-9]\d*$/)
  const socket = await connect(t, url, user.token)
  t.match(await ask(socket, 'chat-message', { chatId: full, content: 'x' }), {
    ok: false,
    error: { code: 'QUEUE_FULL', retryable: true },
  })
  t.same((await read(full)).messages, [])
  const again = await post(chatIds[3] ?? '', { content: '3' }, { 'idempotency-key': '3' })
  t.equal(again.status, 202, 'what is known is answered')

  const other = await converse(url)
  const free = await other.post(await other.newChat(), { content: 'y' })
  t.equal(free.status, 202, 'who need not wait is let in')
  const theirs = await other.post<ApiError>(await other.newChat(), { content: 'y' })
  t.equal(theirs.status, 503, 'but not to wait')
  await eventually('they run', () => letGo.length === 2)
  letGo[0]?.()
  await eventually('one waits no more', () => app.generations.counts.waiting === 2)
  const retried = await post(full, { content: 'x' }, { 'idempotency-key': key })
  t.equal(retried.status, 202, 'later there is room')
})

t.test(
  'past USER_QUEUE_MAX a user is refused by REST, SSE and socket, and others have room',
  async (t) => {
    const { script, letGo } = held()
    const settings = { OLLAMA_MAX_CONCURRENT: '4', USER_MAX_CONCURRENT: '2' }
    const { app, url, user, newChat, post, send, read } = await startConversation(t, settings, {
      script,
    })
    t.teardown(() => {
      for (const go of letGo) go()
    })
    const chatIds = await Promise.all(Array.from({ length: 10 }, () => newChat()))
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        post<Turn & ApiError>(chatIds[n % 10] ?? '', { content: `${n}` }),
      ),
    )
    const refusedOnes = answers.filter(({ status }) => status !== 202)
    t.equal(answers.length - refusedOnes.length, 22, 'two run, and 20 wait')
    for (const { status, headers, body } of refusedOnes) {
      t.match({ status, code: body.code }, { status: 429, code: 'USER_QUEUE_FULL' })
      t.match(headers.get('retry-after'), /^[1-9]\d*$/)
    }
    t.same(app.generations.counts, { waiting: 20, running: 2 })

    const chatId = await newChat()
    t.match(await send(chatId, { content: 'waits for its reply' }), { status: 429 })
    t.match(await send(chatId, { content: 'as a stream' }, { accept: 'text/event-stream' }), {
      status: 429,
      body: { code: 'USER_QUEUE_FULL' },
    })
    const socket = await connect(t, url, user.token)
    t.match(await ask(socket, 'chat-message', { chatId, content: 'by socket' }), {
      ok: false,
      error: { code: 'USER_QUEUE_FULL', retryable: true },
    })
    t.same((await read(chatId)).messages, [], 'nothing of what is refused is stored')

    const other = await converse(url)
    const theirs = await other.newChat()
    t.equal((await other.post(theirs, { content: 'first' })).status, 202)
    t.equal((await other.post(theirs, { content: 'second' })).status, 202, 'theirs may wait')
    letGo[0]?.()
    await eventually('one waits no more', () => app.generations.counts.waiting === 20)
    t.equal((await post(chatId, { content: 'later' })).status, 202)
  },
)

t.test(
  'USER_QUEUE_MAX holds over all servers that share a Redis',
  { skip: process.env.REDIS_URL ? false : 'REDIS_URL is not set' },
  async (t) => {
    const { script, letGo } = held()
    const settings = {
      DATA_DIR: t.testdir(),
      JWT_SECRET: 'a secret that both of the servers share',
    }
    const first = await startConversation(t, settings, { script })
    t.teardown(() => {
      for (const go of letGo) go()
    })
    const second = await startApp(t, { ...settings, OLLAMA_API_URL: first.standIn.url })
    const calls = [first.call, api(second.url, first.user.token)]
    const chatIds = await Promise.all(Array.from({ length: 10 }, () => first.newChat()))
    const send = (call = first.call, chatId = '') =>
      call<ApiError>(
        'POST',
        first.messagesOf(chatId),
        { content: 'x' },
        { prefer: 'respond-async' },
      )
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => send(calls[n % 2], chatIds[n % 10])),
    )
    const codes = answers.map(({ body }) => body.code).filter((code) => code !== undefined)
    t.same(new Set(codes), new Set(['USER_QUEUE_FULL']))
    const accepted = answers.length - codes.length
    // The second server lets as many in unasked as might run at once.
    t.ok(accepted >= 20 && accepted <= 24, `${accepted} accepted`)
    const other = await converse(second.url)
    t.equal((await other.post(await other.newChat(), { content: 'y' })).status, 202)
    // What is stopped makes room at the other server.
    const { messages } = await first.read(chatIds[0] ?? '')
    t.ok(messages.length > 0)
    for (const chatId of chatIds) await first.call('DELETE', `/api/ai/chats/${chatId}`)
    const later = await first.newChat()
    t.equal((await send(calls[1], later)).status, 202)
    t.equal((await send(calls[0], later)).status, 202)
  },
)

t.test('with QUEUE_MAX 0 nobody waits, and a hundred equal sends are one', async (t) => {
  const { script, letGo } = held()
  const settings = { QUEUE_MAX: '0', OLLAMA_MAX_CONCURRENT: '2' }
  const { standIn, app, newChat, post } = await startConversation(t, settings, { script })
  t.teardown(() => {
    for (const go of letGo) go()
  })
  const chatId = await newChat()
  const answers = await Promise.all(
    Array.from({ length: 100 }, () =>
      post<Turn>(chatId, { content: 'x' }, { 'idempotency-key': 'same' }),
    ),
  )
  t.same(new Set(answers.map(({ status }) => status)), new Set([202]))
  t.equal(new Set(answers.map(({ body }) => body.reply.id)).size, 1)
  const behind = await post<ApiError>(chatId, { content: 'y' })
  t.equal(behind.status, 503, 'its chat is busy')
  t.equal((await post(await newChat(), { content: 'y' })).status, 202)
  await standIn.chatCall(2)
  t.same(app.generations.counts, { waiting: 0, running: 2 })
})

t.test('who waits is told its place when it changes, and when it may begin', async (t) => {
  const { script, letGo } = held()
  const settings = { OLLAMA_MAX_CONCURRENT: '1' }
  const { url, user, newChat, post, messagesOf, send } = await startConversation(t, settings, {
    script,
  })
  t.teardown(() => {
    for (const go of letGo) go()
  })
  const finishNext = async (n: number) => {
    await eventually(`${n} have begun`, () => letGo.length >= n)
    letGo[n - 1]?.()
  }
  // How long a reply takes.
  const learning = send(await newChat(), { content: 'learn' })
  await eventually('it has begun', () => letGo.length === 1)
  letGo[0]?.()
  await learning

  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const replies: Message[] = []
  for (let n = 0; n < 4; n++) {
    const chatId = await newChat()
    await ask(socket, 'join-chat', { chatId })
    replies.push((await post<Turn>(chatId, { content: `${n}` })).body.reply)
  }
  const last = replies[3]
  if (!last) return t.fail('nothing waits')
  const joined = await ask(socket, 'join-chat', { chatId: last.chatId })
  t.match(joined.active, [{ messageId: last.id, status: 'queued', position: 3, text: '' }])
  const streamed: (number | undefined)[] = []
  const following = (async () => {
    const path = `${url}${messagesOf(last.chatId)}/${last.id}/stream`
    const { body } = await fetch(path, { headers: user.headers })
    if (!body) return
    for await (const { event, data } of readEvents(body)) {
      if (event === 'message-start') streamed.push(JSON.parse(data).position)
    }
  })()
  await eventually('the stream has begun', () => streamed.length > 0)
  for (const [n, position] of [2, 1].entries()) {
    await finishNext(n + 2)
    await heard.until(() =>
      heard.starts.findLast(({ id }) => id === last.id)?.position === position ? true : undefined,
    )
  }
  await finishNext(4)
  await finishNext(5)
  await heard.message(last.id)
  await following
  const starts = heard.starts.filter(({ id }) => id === last.id)
  const slots = starts.map(({ position }) => position)
  t.same(slots, [3, 2, 1, undefined], 'once each')
  t.same(streamed, [3, 2, 1, undefined])
  t.match(starts.at(-1), { status: 'streaming' })
  const [first] = starts
  t.ok(Date.parse(first?.estimatedStart ?? '') > Date.parse(last.createdAt), 'and it is estimated')
})
