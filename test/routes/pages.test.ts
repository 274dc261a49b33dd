import t from 'tap'
import type { ChatList, ChatWithMessages, MessageList } from '../../schemas/chats.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { AppError } from '../../src/errors.js'
import { newId } from '../../src/ids.js'
import { api, register } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInReply } from '../services/ollama-stand-in.js'
import { aTurn } from '../stores/rows.js'

/* Pages that are kept: whoever asks again gets the same bytes, and nobody gets them after a change. */

const limits = [1, 20, 100]

/** Reads a user's pages until each is one that is kept; they are then as they were read last. */
function pagesOf(call: ReturnType<typeof api>, chatId: string) {
  return {
    async read() {
      const lists: ChatList[] = []
      const chats: ChatWithMessages[] = []
      for (const limit of limits) {
        lists.push((await call<ChatList>('GET', `/api/ai/chats?limit=${limit}`)).body)
        const path = `/api/ai/chats/${chatId}?limit=${limit}`
        chats.push((await call<ChatWithMessages>('GET', path)).body)
      }
      return { lists, chats }
    },
  }
}

t.test('a page read again is the same bytes, written once, under its own headers', async (t) => {
  const { app, url, user, newChat, send } = await startConversation(t)
  const chatId = await newChat({ title: 'Ünïcode 😀', system: 'Be brief.' })
  await send(chatId, { content: 'len=30 “quoted” 😀' })
  let reads = 0
  for (const name of ['listChats', 'listMessages'] as const) {
    const method = app.store[name] as (...values: unknown[]) => Promise<never>
    app.store[name] = async (...values: unknown[]) => {
      reads++
      return method(...values)
    }
  }
  for (const path of ['/api/ai/chats', '/api/ai/chats?limit=7', `/api/ai/chats/${chatId}`]) {
    const answers = []
    reads = 0
    for (let n = 0; n < 3; n++) {
      const answer = await fetch(url + path, { headers: user.headers })
      const { status, headers } = answer
      const bytes = Buffer.from(await answer.arrayBuffer())
      t.equal(headers.get('content-length'), String(bytes.length))
      t.equal(headers.get('content-type'), 'application/json; charset=utf-8')
      const same = [...headers.keys()].sort()
      answers.push({ status, bytes: bytes.toString('hex'), same })
    }
    t.same(answers[1], answers[0], path)
    t.same(answers[2], answers[0], path)
    t.equal(reads, 1, path)
  }
})

t.test('a page is right after each kind of change, at once', async (t) => {
  const { url, user, call, newChat, post, read } = await startConversation(t)
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  const pages = pagesOf(call, chatId)
  const path = `/api/ai/chats/${chatId}`

  /** Lets every page be kept, makes a change, and reads them as soon as it is acknowledged. */
  async function after<T>(change: () => Promise<T>) {
    await pages.read()
    const answer = await change()
    return { answer, ...(await pages.read()) }
  }

  const created = await after(() => newChat({ title: 'second' }))
  for (const { chats } of created.lists) t.equal(chats[0]?.id, created.answer)

  const patched = await after(() => call('PATCH', path, { title: 'Patched', system: 'New.' }))
  for (const { chats } of patched.lists) t.match(chats[0], { id: chatId, title: 'Patched' })
  for (const chat of patched.chats) t.match(chat, { title: 'Patched', system: 'New.' })

  const sent = await after(() => post(chatId, { content: 'len=20 rate=200' }))
  for (const { chats } of sent.lists) t.match(chats[0], { id: chatId, messageCount: 2 })
  for (const { messages } of sent.chats) t.equal(messages.at(-1)?.id, sent.answer.body.reply.id)
  await eventually('its end is read', async () => {
    const { chats } = await pages.read()
    return chats.every(({ messages }) => messages.at(-1)?.status === 'complete')
  })
  for (const { messages } of (await pages.read()).chats) {
    t.equal(messages.at(-1)?.content, standInReply('len=20 rate=200'))
  }

  const said = await after(() =>
    ask(socket, 'chat-message', { chatId, content: 'len=9000 rate=50', clientMessageId: 'one' }),
  )
  for (const { messages } of said.chats) t.equal(messages.at(-1)?.id, said.answer.reply.id)
  await heard.chunk(said.answer.reply.id)
  const stop = { chatId, messageId: said.answer.reply.id }
  const stopped = await after(() => ask(socket, 'stop-message', stop))
  for (const { messages } of stopped.chats) t.same(messages.at(-1), stopped.answer.message)

  // Who hears of a message may read its page at once, whoever waits for the acknowledgement.
  await pages.read()
  const told = new Promise<ChatWithMessages>((resolve, reject) => {
    socket.once('message', () => read(chatId).then(resolve, reject))
  })
  const next = await post(chatId, { content: 'len=10' })
  t.ok((await told).messages.some(({ id }) => id === next.body.message.id))
  await heard.message(next.body.reply.id)

  await pages.read()
  t.equal((await call('DELETE', path)).status, 204)
  for (const limit of limits) {
    t.match(await call('GET', `${path}?limit=${limit}`), { status: 404 })
    const { body } = await call<ChatList>('GET', `/api/ai/chats?limit=${limit}`)
    t.notOk(body.chats.some(({ id }) => id === chatId))
  }
})

t.test('a reply that has not ended is read anew each time', async (t) => {
  const { call, newChat, post } = await startConversation(t)
  const chatId = await newChat()
  const path = `/api/ai/chats/${chatId}`
  await post(chatId, { content: 'len=4000 rate=400' })
  const lengths = new Set<number>()
  await eventually('its text has grown twice between two reads', async () => {
    const { body } = await call<ChatWithMessages>('GET', path)
    lengths.add(body.messages[1]?.content.length ?? 0)
    return lengths.size > 2
  })
})

t.test('a page is its owner’s: to another the chat does not exist', async (t) => {
  const { url, call, newChat, send } = await startConversation(t)
  const chatId = await newChat()
  await send(chatId, { content: 'len=5' })
  const stranger = api(url, (await register(url)).token)
  for (let n = 0; n < 2; n++) {
    t.equal((await call('GET', `/api/ai/chats/${chatId}`)).status, 200)
    const theirs = await stranger<{ requestId: string }>('GET', `/api/ai/chats/${chatId}`)
    const nobodys = await stranger<{ requestId: string }>('GET', `/api/ai/chats/${newId()}`)
    t.equal(theirs.status, 404)
    t.same({ ...theirs.body, requestId: '' }, { ...nobodys.body, requestId: '' })
    t.same((await stranger<ChatList>('GET', '/api/ai/chats')).body.chats, [])
  }
})

t.test('a change whose answer the store lost is seen, and so is its repetition', async (t) => {
  const { app, call, newChat, post } = await startConversation(t)
  const { store } = app
  const chatId = await newChat()
  const path = `/api/ai/chats/${chatId}`
  const pages = pagesOf(call, chatId)

  /** The store does as it is told, once, and cannot say so. */
  function loseAnswer(name: 'updateChat' | 'deleteChat' | 'appendTurn') {
    const method = store[name] as (...values: unknown[]) => Promise<unknown>
    Object.assign(store, {
      [name]: async (...values: unknown[]) => {
        Object.assign(store, { [name]: method })
        await method(...values)
        throw new AppError('STORE_UNAVAILABLE')
      },
    })
  }

  await pages.read()
  loseAnswer('updateChat')
  t.equal((await call('PATCH', path, { title: 'Lost' })).status, 503)
  for (const chat of (await pages.read()).chats) t.equal(chat.title, 'Lost')

  loseAnswer('appendTurn')
  const key = { 'idempotency-key': 'lost' }
  t.equal((await post(chatId, { content: 'len=5' }, key)).status, 503)
  for (const { messages } of (await pages.read()).chats) t.not(messages.length, 0)
  t.equal((await post<Turn>(chatId, { content: 'len=5' }, key)).status, 202)
  await eventually('it is run', async () => {
    const { chats } = await pages.read()
    return chats.every(({ messages }) => messages.at(-1)?.status === 'complete')
  })

  loseAnswer('deleteChat')
  t.equal((await call('DELETE', path)).status, 503)
  for (const limit of limits) t.equal((await call('GET', `${path}?limit=${limit}`)).status, 404)
})

t.test('a turn of a server that died before it could tell is seen when it is moved', async (t) => {
  const { app, user, call, newChat, send } = await startConversation(t, { LEASE_MS: '1000' })
  const { set } = app.cache
  // Nothing of what is kept ends by itself while the test waits.
  app.cache.set = (key, value) => set(key, value, 3_600_000)
  const chatId = await newChat()
  await send(chatId, { content: 'len=5' })
  const pages = pagesOf(call, chatId)
  await pages.read()
  const chat = { id: chatId, userId: user.user.id }
  const { store } = app
  // Nobody in this process forgets a page for it.
  const { reply } = await store.appendTurn(aTurn(chat, { content: 'len=7' }))
  for (const { messages } of (await pages.read()).chats) t.ok(messages.length <= 2, 'kept')
  await store.updateReply(reply.id, { status: ['queued'] }, { leaseUntil: new Date(0) })
  await eventually('it is taken over and read', async () => {
    const { chats } = await pages.read()
    return chats.every(({ messages }) => messages.at(-1)?.id === reply.id)
  })
})

t.test('the messages of a chat are listed by themselves, the newest first to be had', async (t) => {
  const { call, newChat, send, messagesOf } = await startConversation(t)
  const chatId = await newChat()
  for (const content of ['len=10', 'len=20', 'len=30']) await send(chatId, { content })
  const path = messagesOf(chatId)
  const { body: newest } = await call<MessageList>('GET', `${path}?limit=4`)
  t.same(
    newest.messages.map(({ seq }) => seq),
    [3, 4, 5, 6],
  )
  const older = await call<MessageList>('GET', `${path}?limit=4&before=${newest.nextCursor}`)
  t.match(older.body, { messages: [{ seq: 1, content: 'len=10' }, { seq: 2 }], nextCursor: null })
  t.match(await call('GET', `${path}?before=nonsense`), {
    status: 400,
    body: { code: 'BAD_CURSOR' },
  })
})

t.test('one message is read by its id, a running reply with its text so far', async (t) => {
  const { call, newChat, post, messagesOf } = await startConversation(t)
  const chatId = await newChat()
  const content = 'len=3000 rate=300'
  const { message, reply } = (await post(chatId, { content })).body
  const read = async (id: string) =>
    (await call<Message>('GET', `${messagesOf(chatId)}/${id}`)).body
  t.match(await read(message.id), { id: message.id, role: 'user', content })
  await eventually('its text has begun', async () => (await read(reply.id)).content !== '')
  const running = await read(reply.id)
  t.equal(running.status, 'streaming')
  t.ok(standInReply(content).startsWith(running.content))
  const { body: stopped } = await call<Message>('POST', `${messagesOf(chatId)}/${reply.id}/stop`)
  t.same(await read(reply.id), stopped)
  t.match(await call('GET', `${messagesOf(chatId)}/${newId()}`), {
    status: 404,
    body: { code: 'MESSAGE_NOT_FOUND' },
  })
})
