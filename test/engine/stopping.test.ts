import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Message, Turn } from '../../schemas/messages.js'
import type { ReplyChange } from '../../src/stores/store.js'
import { readEvents } from '../../web/client/events.js'
import { embedded, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { never, type Script, standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { seededRandom } from '../services/random.js'
import { aTurn } from '../stores/rows.js'

t.test('a stop: Ollama is let go at once, the text kept, and everybody told once', async (t) => {
  const { standIn, url, user, call, newChat, send, read, messagesOf } = await startConversation(t)
  for (let round = 1; round <= 4; round++) {
    const chatId = await newChat()
    const [one, other] = await Promise.all([
      connect(t, url, user.token),
      connect(t, url, user.token),
    ])
    const devices = [record(one), record(other)]
    await ask(other, 'join-chat', { chatId })
    const content = `len=9000 rate=400 think=${round}`
    const { reply } = await ask(one, 'chat-message', {
      chatId,
      content,
      clientMessageId: `${round}`,
    })
    const waiting = send(chatId, { content }, { 'idempotency-key': `${round}` })
    const following = fetch(`${url}${messagesOf(chatId)}/${reply.id}/stream`, {
      headers: user.headers,
    })
    await devices[0]?.until(() =>
      (devices[0]?.text(reply.id).length ?? 0) > 200 ? true : undefined,
    )
    const upstream = await standIn.chatCall(round)

    const asked =
      round % 2
        ? ask(one, 'stop-message', { chatId, messageId: reply.id })
        : call<Message>('POST', `${messagesOf(chatId)}/${reply.id}/stop`)
    await eventually('the connection to Ollama is closed', () => upstream.closed)
    t.notOk(upstream.answered, 'in mid-reply')
    const answer = await asked
    const stopped: Message = answer.message ?? answer.body
    t.match(stopped, { id: reply.id, status: 'stopped', completedAt: String })
    t.ok(stopped.content.length > 200)
    t.ok(standInReply(content).startsWith(stopped.content), 'the text so far')
    t.same((await waiting).body.reply, stopped, 'who waits for the answer is given it')
    const followed: string[] = []
    const { body } = await following
    if (body) for await (const { data } of readEvents(body)) followed.push(data)
    t.same(JSON.parse(followed.at(-1) ?? ''), stopped)
    t.same((await read(chatId)).messages[1], stopped, 'as it is stored')
    await ask(one, 'stop-message', { chatId, messageId: reply.id })
    for (const device of devices) {
      t.same(await device.message(reply.id), stopped)
      t.equal(device.text(reply.id), stopped.content, 'no frame is missing or came later')
      t.equal(device.messages.filter(({ id }) => id === reply.id).length, 1, 'told once')
    }
  }
})

t.test('a stopped reply keeps what could have begun a tag of thinking', async (t) => {
  const script: Script = () => [{ content: '<think>Hm </thin' }, { wait: never }]
  const { url, user, newChat, call, messagesOf } = await startConversation(t, {}, { script })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  const { reply } = await ask(socket, 'chat-message', { chatId, content: 'x' })
  await heard.chunk(reply.id)
  const stopped = await call<Message>('POST', `${messagesOf(chatId)}/${reply.id}/stop`)
  t.match(stopped.body, { status: 'stopped', content: '', thinking: 'Hm </thin' })
  t.match(await heard.message(reply.id), { thinking: 'Hm </thin' })
  const chunks = heard.chunks.filter(
    ({ messageId, thinking }) => messageId === reply.id && thinking,
  )
  t.equal(chunks.map(({ delta }) => delta).join(''), 'Hm </thin')
})

t.test('stop against finish, and stop against stop: one end, the same for all', async (t) => {
  const random = seededRandom(t)
  const { url, user, call, newChat, read, messagesOf } = await startConversation(t, {
    USER_MAX_CONCURRENT: '10',
    USER_QUEUE_MAX: '60',
    OLLAMA_MAX_CONCURRENT: '10',
  })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const statuses = new Set<string>()
  await Promise.all(
    Array.from({ length: 60 }, async (_, n) => {
      const chatId = await newChat()
      const content = `len=${40 + random(40)} rate=300 seed=${n}`
      const { reply } = await ask(socket, 'chat-message', { chatId, content })
      await delay(random(200))
      const path = `${messagesOf(chatId)}/${reply.id}/stop`
      const [rest, rest2, event] = await Promise.all([
        call<Message>('POST', path),
        call<Message>('POST', path),
        ask(socket, 'stop-message', { chatId, messageId: reply.id }),
      ])
      const told = await heard.message(reply.id)
      for (const one of [rest.body, rest2.body, event.message, (await read(chatId)).messages[1]]) {
        t.same(one, told)
      }
      const whole = standInReply(content)
      t.ok(told.status === 'complete' ? told.content === whole : whole.startsWith(told.content))
      statuses.add(told.status)
    }),
  )
  const ends = heard.messages.filter(({ role }) => role === 'assistant')
  t.equal(ends.length, new Set(ends.map(({ id }) => id)).size, 'each is told once')
  t.ok(statuses.size > 0, `ended as ${[...statuses]}`)
})

t.test('one that waits leaves the queue at once, by a stop or with its chat', async (t) => {
  const { standIn, app, url, user, call, newChat, post, read, messagesOf } =
    await startConversation(t, { OLLAMA_MAX_CONCURRENT: '1' })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const { reply: running } = (await post(await newChat(), { content: 'len=9000 rate=100' })).body
  await standIn.chatCall()
  const waiting: Message[] = []
  for (let n = 0; n < 4; n++) {
    const chatId = await newChat()
    await ask(socket, 'join-chat', { chatId })
    waiting.push((await post<Turn>(chatId, { content: `len=${n + 1}` })).body.reply)
  }
  const [stopped, deleted, third, fourth] = waiting
  if (!stopped || !deleted || !third || !fourth) return t.fail('they do not wait')
  const ended = await call<Message>('POST', `${messagesOf(stopped.chatId)}/${stopped.id}/stop`)
  t.match(ended, { status: 200, body: { status: 'stopped', content: '' } })
  t.equal((await call('DELETE', `/api/ai/chats/${deleted.chatId}`)).status, 204)
  t.same(app.generations.counts, { waiting: 2, running: 1 })
  const placeOf = (id: string) => heard.starts.findLast((start) => start.id === id)?.position
  await heard.until(() => (placeOf(third.id) === 1 && placeOf(fourth.id) === 2 ? true : undefined))
  await call('POST', `${messagesOf(running.chatId)}/${running.id}/stop`)
  await heard.message(fourth.id)
  t.same(
    standIn.callsOf('/api/chat').map(({ body }) => body.messages[0]?.content),
    ['len=9000 rate=100', 'len=3', 'len=4'],
    'Ollama never heard of the two',
  )
  t.match((await read(stopped.chatId)).messages, [{ role: 'user' }, { status: 'stopped' }])
})

t.test('one that is claimed while it is stopped is stopped where it then is', async (t) => {
  const { app, user, call, newChat, read, messagesOf } = await startConversation(t, embedded)
  const [chatId, otherChatId] = [await newChat(), await newChat()]
  const ofUser = { userId: user.user.id }
  const { store } = app
  const { reply } = await store.appendTurn(aTurn({ ...ofUser, id: chatId }, { owner: 'gone' }))
  const { reply: other } = await store.appendTurn(
    aTurn({ ...ofUser, id: otherChatId }, { owner: 'gone' }),
  )
  // Another server's claim, just after this one has looked who has it.
  const claims = new Set([reply.id, other.id])
  const { findMessage } = store
  const looks: string[] = []
  store.findMessage = async (...args) => {
    const row = await findMessage(...args)
    looks.push(args[2])
    const isDue = args[2] === other.id || looks.filter((id) => id === reply.id).length === 2
    if (isDue && claims.delete(args[2])) {
      const claim = { status: 'streaming', epoch: 2, owner: 'another', takeovers: 1 } as const
      await store.updateReply(args[2], { status: ['queued'], owner: 'gone' }, claim)
    }
    return row
  }
  const answer = await call<Message>('POST', `${messagesOf(chatId)}/${reply.id}/stop`)
  t.match(answer, { status: 200, body: { status: 'stopped' } })
  t.match((await read(chatId)).messages[1], { id: reply.id, status: 'stopped' })
  // With all of a user's.
  await call('POST', '/api/auth/logout-everywhere')
  t.equal(claims.size, 0)
  t.match(await findMessage(ofUser.userId, otherChatId, other.id), { status: 'stopped' })
})

/** A message that the store has, and of which the server hears so when `hearOfIt` is called. */
async function storedUnheard(t: Test) {
  const conversation = await startConversation(t)
  const { app, url, user, newChat } = conversation
  const chatId = await newChat()
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const { appendTurn, listMessages } = app.store
  let hearOfIt = () => {}
  const isHeardOf = new Promise<void>((resolve) => {
    hearOfIt = resolve
  })
  app.store.appendTurn = async (turn) => {
    const stored = await appendTurn(turn)
    await isHeardOf
    return stored
  }
  const sending = ask(socket, 'chat-message', { chatId, content: 'len=9000 rate=300' })
  await eventually('it is stored', async () => (await listMessages(chatId, 10)).length === 2)
  const ids = (await listMessages(chatId, 10)).map((row) => row.id)
  return { ...conversation, chatId, socket, heard, ids, id: ids[1] ?? '', sending, hearOfIt }
}

t.test('one that is stored before this server hears so is stopped for good', async (t) => {
  const unheard = await storedUnheard(t)
  const { app, standIn, call, messagesOf, chatId, socket, heard, id, sending, hearOfIt } = unheard
  const { findMessage } = app.store
  let looks = 0
  app.store.findMessage = async (...args) => {
    const row = await findMessage(...args)
    looks++
    return row
  }
  const stopping = call<Message>('POST', `${messagesOf(chatId)}/${id}/stop`)
  await eventually('the stop has seen whose it is', () => looks === 2)
  hearOfIt()
  const [{ status, body }] = await Promise.all([stopping, sending])
  t.match({ status, body }, { status: 200, body: { id, status: 'stopped' } })
  t.same(await heard.message(id), body)
  await eventually('nothing runs', () => app.generations.counts.running === 0)
  await ask(socket, 'join-chat', { chatId })
  t.equal(heard.text(id), body.content, 'nothing was told after the end')
  t.equal(heard.messages.filter((message) => message.id === id).length, 1)
  for (const one of standIn.callsOf('/api/chat')) await one.whenClosed
})

t.test('one that was stopped before this server heard that it is stored never runs', async (t) => {
  const unheard = await storedUnheard(t)
  const { app, standIn, call, messagesOf, chatId, socket, heard, ids, id } = unheard
  const { status, body } = await call<Message>('POST', `${messagesOf(chatId)}/${id}/stop`)
  t.match({ status, body }, { status: 200, body: { id, status: 'stopped', content: '' } })
  unheard.hearOfIt()
  t.match(await unheard.sending, { reply: { id } })
  t.same(app.generations.counts, { waiting: 0, running: 0 })
  await ask(socket, 'join-chat', { chatId })
  t.same(heard.messages.map((message) => message.id).sort(), [...ids].sort(), 'each told once')
  t.same(standIn.callsOf('/api/chat'), [])
  t.same(heard.starts, [])
})

t.test('nor does one whose chat was deleted, and nothing more is told of the chat', async (t) => {
  const unheard = await storedUnheard(t)
  const { app, standIn, call, user, newChat, messagesOf, chatId, socket, heard, id } = unheard
  const told: string[] = []
  for (const event of ['chat-created', 'chat-updated'] as const) {
    socket.on(event, ({ chat }) => told.push(`${event} ${chat.id}`))
  }
  socket.on('chat-deleted', (gone) => told.push(`chat-deleted ${gone.chatId}`))
  // As when another server, which knows of no reply to stop, deletes it.
  t.equal(await app.store.deleteChat(user.user.id, chatId), true)
  app.generations.dropChat(chatId)
  unheard.hearOfIt()
  t.match(await unheard.sending, { reply: { id } })
  t.same(app.generations.counts, { waiting: 0, running: 0 })
  t.equal((await call('GET', `${messagesOf(chatId)}/${id}/stream`)).status, 404)
  const other = await newChat()
  await eventually('another chat is told of', () => told.length > 0)
  t.same(told, [`chat-created ${other}`])
  t.same(heard.messages, [])
  t.same(standIn.callsOf('/api/chat'), [])
})

t.test(
  'the end of a reply that another server left is told once where it is followed',
  async (t) => {
    const { app, url, user, call, newChat, messagesOf } = await startConversation(t, {
      LEASE_MS: '500',
    })
    const { store } = app
    const socket = await connect(t, url, user.token)
    const heard = record(socket)
    const leftInChat = async (change: ReplyChange) => {
      const chatId = await newChat()
      const turn = aTurn({ userId: user.user.id, id: chatId }, { owner: 'gone' })
      const { reply } = await store.appendTurn(turn)
      await store.updateReply(reply.id, { status: ['queued'] }, change)
      await ask(socket, 'join-chat', { chatId })
      return reply
    }
    const waiting = await leftInChat({})
    const running = await leftInChat({ status: 'streaming', content: 'begun' })
    const exhausted = await leftInChat({ status: 'streaming', content: 'begun', takeovers: 3 })
    for (const { chatId, id } of [waiting, running]) {
      const answer = await call<Message>('POST', `${messagesOf(chatId)}/${id}/stop`)
      t.match(answer, { status: 200, body: { id, status: 'stopped' } })
    }
    await store.updateReply(exhausted.id, { status: ['streaming'] }, { leaseUntil: new Date(0) })
    t.match(await heard.message(exhausted.id), { status: 'interrupted', content: 'begun' })
    // What the store has is looked at once more.
    const replies = [waiting, running, exhausted]
    for (const { chatId } of replies) await ask(socket, 'join-chat', { chatId })
    t.same(
      heard.messages.map(({ id }) => id),
      replies.map(({ id }) => id),
    )
  },
)

t.test('a stop waits for no Ollama that hangs', async (t) => {
  const DATA_DIR = t.testdir()
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const hang = () => {}
  const hanging = await startStandIn({
    routes: { '/api/tags': hang, '/api/ps': hang, '/api/show': hang },
  })
  t.teardown(() => hanging.close())
  const first = await startApp(t, {
    DATA_DIR,
    OLLAMA_API_URL: standIn.url,
    OLLAMA_MAX_CONCURRENT: '1',
  })
  const before = await converse(first.url)
  const content = 'fault=hangBeforeTokens after=0'
  const { reply } = (await before.post(await before.newChat(), { content })).body
  await standIn.chatCall()
  await first.close()

  const second = await startApp(t, { DATA_DIR, OLLAMA_API_URL: hanging.url })
  await eventually('it has begun again', () => second.app.generations.counts.running === 1)
  await eventually('it asks Ollama for its models', () => hanging.callsOf('/api/tags').length > 0)
  const response = await fetch(`${second.url}${before.messagesOf(reply.chatId)}/${reply.id}/stop`, {
    method: 'POST',
    headers: before.user.headers,
  })
  t.match(await response.json(), { status: 'stopped' })
  t.notOk(hanging.callsOf('/api/tags')[0]?.closed, 'Ollama hangs still')
})

t.test(
  'a chat that is deleted while it generates: Ollama is let go, nothing comes back',
  async (t) => {
    const { standIn, app, url, user, call, newChat, post, messagesOf } = await startConversation(t)
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const heard = record(socket)
    await ask(socket, 'join-chat', { chatId })
    const deletions: unknown[] = []
    socket.on('chat-deleted', (payload) => deletions.push(payload))
    const { reply } = (await post(chatId, { content: 'len=9000 rate=300' })).body
    await post(chatId, { content: 'len=10' })
    await heard.chunk(reply.id)
    const upstream = await standIn.chatCall()
    const [answer] = await Promise.all([
      call('DELETE', `/api/ai/chats/${chatId}`),
      upstream.whenClosed,
    ])
    t.equal(answer.status, 204)
    await eventually('nothing runs', () => app.generations.counts.running === 0)
    await eventually('they are told', () => deletions.length === 1)
    t.same(deletions, [{ chatId }])
    t.same(await app.store.listMessages(chatId, 10), [])
    t.equal((await call('GET', `${messagesOf(chatId)}/${reply.id}/stream`)).status, 404)
    t.equal(standIn.callsOf('/api/chat').length, 1, 'the second never began')
  },
)
