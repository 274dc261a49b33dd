import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { ChatClient } from '../../../web/client/chat-client.js'
import { ChatError } from '../../../web/client/chat-error.js'
import { type PendingMessage, storedPending } from '../../../web/client/outbox.js'
import type { Message } from '../../../web/client/types.js'
import { hear } from '../../services/client.js'
import { startConversation } from '../../services/conversation.js'
import { eventually } from '../../services/eventually.js'
import { standInReply } from '../../services/ollama-stand-in.js'
import { startTcpProxy } from '../../services/tcp-proxy.js'
import { newAccount, newClient, signedInClient } from './clients.js'

const caught = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  )

async function connected(client: ChatClient) {
  const online = hear(client.socket, 'connect')
  await client.connect()
  await online
}

t.test('errors', async (t) => {
  const { url } = await startConversation(t)
  const { client } = await signedInClient(t, { url })
  await connected(client)
  const chat = await client.rest.createChat()
  const unknown = '0'.repeat(24)

  t.test('of REST have all that the server tells', async (t) => {
    const error = await caught(client.rest.createChat({ title: '' }))
    t.ok(error instanceof ChatError)
    t.match(error, {
      code: 'VALIDATION_FAILED',
      status: 400,
      retryable: false,
      requestId: /./,
      errors: [{ field: 'title' }],
    })
  })

  t.test('of a stream are the same class', async (t) => {
    const error = await caught(client.follow(chat.id, unknown))
    t.ok(error instanceof ChatError)
    t.match(error, { code: 'MESSAGE_NOT_FOUND', status: 404, requestId: /./ })
  })

  t.test('of a socket’s acknowledgement are the same class', async (t) => {
    const error = await caught(client.send(unknown, 'Hello'))
    t.ok(error instanceof ChatError)
    t.match(error, { code: 'CHAT_NOT_FOUND', retryable: false })
    t.same(client.pending, [])
  })

  t.test('before signing in say so', async (t) => {
    const stranger = newClient(t, { url })
    t.match(await caught(stranger.rest.profile()), { name: 'ChatError', code: 'SIGNED_OUT' })
    t.match(await caught(stranger.connect()), { code: 'SIGNED_OUT' })
    t.match(await caught(stranger.send(chat.id, 'Hello')), { code: 'SIGNED_OUT' })
  })

  t.test('of the network are retryable', async (t) => {
    const nobody = createServer()
    await new Promise<void>((resolve) => nobody.listen(0, '127.0.0.1', resolve))
    const address = `http://127.0.0.1:${(nobody.address() as AddressInfo).port}`
    await new Promise((resolve) => nobody.close(resolve))
    const away = newClient(t, { url: address })
    t.match(await caught(away.register(newAccount())), {
      name: 'ChatError',
      code: 'NETWORK',
      retryable: true,
      message: `${address} cannot be reached (ECONNREFUSED).`,
    })
  })

  t.test('of a time limit are retryable', async (t) => {
    const silent = createServer(() => {})
    t.teardown(() => silent.close())
    t.teardown(() => silent.closeAllConnections())
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const { port } = silent.address() as AddressInfo
    const slow = newClient(t, { url: `http://127.0.0.1:${port}`, timeoutMs: 50 })
    t.match(await caught(slow.register(newAccount())), { code: 'TIMEOUT', retryable: true })
  })

  t.test('of another server say that it is another', async (t) => {
    const page = createServer((_request, response) => response.end('<html>'))
    t.teardown(() => page.close())
    await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve))
    const { port } = page.address() as AddressInfo
    const other = newClient(t, { url: `http://127.0.0.1:${port}` })
    t.match(await caught(other.register(newAccount())), { code: 'BAD_RESPONSE', retryable: false })
  })

  t.test('of a wrong url come at once', async (t) => {
    for (const wrong of ['localhost:3000', 'http://', 'http://host/api', 'ws://host']) {
      t.throws(() => new ChatClient({ url: wrong }), { name: 'ChatError', code: 'BAD_URL' })
    }
    t.throws(() => new ChatClient(), { code: 'BAD_URL' })
    t.equal(newClient(t, { url: `${url}/` }).url, url)
  })

  t.test('a signal of the caller’s gives its own reason', async (t) => {
    const reason = new Error('enough')
    const signal = AbortSignal.abort(reason)
    t.equal(await caught(client.rest.profile({ signal })), reason)
    t.equal(await caught(client.follow(chat.id, unknown, { signal })), reason)
    const away = new AbortController()
    const { reply } = await client.send(chat.id, 'len=9999 rate=50')
    const onChange = () => away.abort(reason)
    t.equal(
      await caught(client.follow(chat.id, reply.id, { signal: away.signal, onChange })),
      reason,
    )
    const silent = createServer()
    t.teardown(() => silent.close())
    t.teardown(() => silent.closeAllConnections())
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const { port } = silent.address() as AddressInfo
    const waiting = newClient(t, { url: `http://127.0.0.1:${port}` })
    const leaving = new AbortController()
    silent.on('request', () => leaving.abort(reason))
    const call = waiting.register(newAccount(), { signal: leaving.signal })
    t.equal(await caught(call), reason)
  })
})

t.test('a connection that is refused says why', async (t) => {
  const { url } = await startConversation(t)
  const tokens = {
    read: () => ({
      token: 'nonsense',
      refreshToken: 'nonsense',
      renewAt: Number.MAX_SAFE_INTEGER,
      userId: '0'.repeat(24),
      session: 's',
    }),
    write: () => {},
  }
  const client = newClient(t, { url, tokens })
  const errors: (string | undefined)[] = []
  client.on('connection', ({ error }) => errors.push(error?.code))
  await client.connect()
  await eventually('it is closed', () => client.connection.status === 'closed')
  t.match(client.connection.error, { name: 'ChatError', code: 'BAD_REFRESH_TOKEN' })
  t.ok(errors.includes('UNAUTHORIZED'), `${errors}`)
})

t.test('calls that change nothing are repeated while the server is away', async (t) => {
  const { url } = await startConversation(t)
  const proxy = await startTcpProxy(t, url)
  const { client, user } = await signedInClient(t, { url: proxy.url })
  const refused = proxy.failBefore('GET /api/auth/profile', 'cut')
  const profile = client.rest.profile()
  await refused
  proxy.repair()
  t.same(await profile, user)
})

t.test('a chat whose deletion was answered to nobody is deleted all the same', async (t) => {
  const { url } = await startConversation(t)
  const proxy = await startTcpProxy(t, url)
  const { client } = await signedInClient(t, { url: proxy.url })
  const chat = await client.rest.createChat()
  const lost = proxy.loseAnswerTo(`DELETE /api/ai/chats/${chat.id}`)
  await client.rest.deleteChat(chat.id)
  await lost
  t.match(await caught(client.rest.deleteChat(chat.id)), { code: 'CHAT_NOT_FOUND' })
})

t.test('sending', async (t) => {
  const { url } = await startConversation(t)

  t.test('over REST, while there is no socket, is once though its answer is lost', async (t) => {
    const proxy = await startTcpProxy(t, url)
    const { client } = await signedInClient(t, { url: proxy.url })
    const chat = await client.rest.createChat()
    const lost = proxy.loseAnswerTo('idempotency-key')
    const reply = await client.ask(chat.id, 'len=5')
    await lost
    t.equal(reply.content, standInReply('len=5'))
    t.equal((await client.rest.readChat(chat.id)).messages.length, 2)
  })

  t.test('over the socket is once though its acknowledgement is lost', async (t) => {
    const proxy = await startTcpProxy(t, url)
    const { client } = await signedInClient(t, { url: proxy.url })
    await connected(client)
    const chat = await client.rest.createChat()
    const states: string[] = []
    client.on('connection', ({ status }) => states.push(status))
    const content = 'len=5'
    proxy.fail('deaf')
    client.socket.once('disconnect', () => proxy.repair())
    const { reply } = await client.send(chat.id, content)
    t.equal((await client.follow(chat.id, reply.id)).content, standInReply(content))
    t.equal((await client.rest.readChat(chat.id)).messages.length, 2)
    await eventually('it is online again', () => client.connection.status === 'online')
    t.same([...new Set(states)].sort(), ['connecting', 'online'])
  })

  t.test('offline waits, in order, and is done once', async (t) => {
    const proxy = await startTcpProxy(t, url)
    const { client } = await signedInClient(t, { url: proxy.url })
    await connected(client)
    const chat = await client.rest.createChat()
    proxy.fail('cut')
    await hear(client.socket, 'disconnect')
    const counts: number[] = []
    client.on('pending', (pending) => counts.push(pending.length))
    const turns = Promise.all(['one', 'two', 'three'].map((text) => client.send(chat.id, text)))
    await eventually('all are kept', () => client.pending.length === 3)
    await delay(300)
    proxy.repair()
    const sent = await turns
    t.same(
      sent.map(({ message }) => [message.seq, message.content]),
      [
        [1, 'one'],
        [3, 'two'],
        [5, 'three'],
      ],
    )
    t.same(client.pending, [])
    t.same(counts, [1, 2, 3, 2, 1, 0])
    await client.follow(chat.id, sent[2]?.reply.id ?? '')
    t.equal((await client.rest.readChat(chat.id)).messages.length, 6)
  })

  t.test('goes on after a reload with what was kept, under the same user alone', async (t) => {
    const entries = new Map<string, string>()
    const storage = {
      getItem: (key: string) => entries.get(key) ?? null,
      setItem: (key: string, value: string) => void entries.set(key, value),
      removeItem: (key: string) => void entries.delete(key),
    }
    const proxy = await startTcpProxy(t, url)
    const first = await signedInClient(t, { url: proxy.url, pending: storedPending(storage) })
    const chat = await first.client.rest.createChat()
    proxy.fail('cut')
    const sent = caught(first.client.send(chat.id, 'kept'))
    await eventually('it is kept', () => entries.size === 1)
    first.client.close()
    t.match(await sent, { code: 'CLOSED' })
    proxy.repair()

    const stranger = await signedInClient(t, { url, pending: storedPending(storage) })
    t.equal(stranger.client.pending.length, 1)
    const again = newClient(t, { url, pending: storedPending(storage) })
    const { username, password } = first.account
    await again.logIn({ username, password })
    await eventually('it is sent', () => again.pending.length === 0)
    const { messages } = await again.rest.readChat(chat.id)
    t.match(messages[0], { content: 'kept' })
    t.equal(messages.length, 2)
  })

  t.test('is done though the storage for what waits is full', async (t) => {
    const pending = {
      read: () => [],
      write: (messages: readonly PendingMessage[]) => {
        if (messages.length > 0) throw new Error('QuotaExceededError')
      },
    }
    const { client } = await signedInClient(t, { url, pending })
    const chat = await client.rest.createChat()
    t.equal((await client.ask(chat.id, 'len=2')).status, 'complete')
  })

  t.test('can be given up while it waits', async (t) => {
    const proxy = await startTcpProxy(t, url)
    const { client } = await signedInClient(t, { url: proxy.url })
    const chat = await client.rest.createChat()
    proxy.fail('cut')
    const sent = caught(client.send(chat.id, 'never', { clientMessageId: 'mine' }))
    await eventually('it is kept', () => client.pending.length === 1)
    client.discard('mine')
    t.match(await sent, { code: 'DISCARDED' })
    t.same(client.pending, [])
    proxy.repair()
    t.same((await client.rest.readChat(chat.id)).messages, [])
  })

  t.test('is refused when too many wait', async (t) => {
    const kept: PendingMessage[] = Array.from({ length: 100 }, (_, index) => ({
      chatId: 'c'.repeat(24),
      clientMessageId: `${index}`,
      content: 'kept',
      userId: 'somebody else',
      writtenAt: 0,
    }))
    const pending = { read: () => kept, write: () => {} }
    const { client } = await signedInClient(t, { url, pending })
    const chat = await client.rest.createChat()
    t.match(await caught(client.send(chat.id, 'one more')), { code: 'TOO_MANY_PENDING' })
  })
})

t.test('a conversation', async (t) => {
  const { url } = await startConversation(t)
  const texts = (messages: readonly Message[]) => messages.map(({ content }) => content)

  t.test('shows what another device sends, and the reply as it is written', async (t) => {
    const { client, account } = await signedInClient(t, { url })
    const chat = await client.rest.createChat()
    await connected(client)
    const conversation = client.open(chat.id)
    await conversation.loaded
    const seen = new Set<string>()
    conversation.on('reply', ({ text }) => seen.add(text))
    const elsewhere = newClient(t, { url })
    await elsewhere.logIn({ username: account.username, password: account.password })
    const { reply } = await elsewhere.ask(chat.id, 'len=40 rate=200').then((reply) => ({ reply }))
    await eventually('the reply has ended', () => conversation.messages[1]?.status === 'complete')
    t.same(texts(conversation.messages), ['len=40 rate=200', reply.content])
    t.ok(seen.size > 3, `${seen.size} texts`)
    t.equal(conversation.chat?.title, 'len=40 rate=200')
    conversation.close()
  })

  t.test('stays right through a broken connection, and shows what it missed', async (t) => {
    const proxy = await startTcpProxy(t, url)
    const { client, account } = await signedInClient(t, { url: proxy.url })
    const chat = await client.rest.createChat()
    await connected(client)
    const conversation = client.open(chat.id)
    const { reply } = await client.send(chat.id, 'len=60 rate=60')
    await eventually('text came', () => (conversation.reply(reply.id)?.text.length ?? 0) > 5)
    proxy.fail('cut')
    const elsewhere = newClient(t, { url })
    await elsewhere.logIn({ username: account.username, password: account.password })
    await elsewhere.ask(chat.id, 'len=3')
    proxy.repair()
    await eventually('it has caught up', () => conversation.messages.length === 4)
    await eventually('all have ended', () =>
      conversation.messages.every(({ status }) => status === 'complete'),
    )
    const views = conversation.messages.map((message) => conversation.view(message).text)
    t.same(views, texts((await client.rest.readChat(chat.id)).messages))
  })

  t.test('begins with its newest page, and loads older ones', async (t) => {
    const { client } = await signedInClient(t, { url })
    const chat = await client.rest.createChat()
    for (const text of ['one', 'two', 'three']) await client.ask(chat.id, `len=1 ${text}`)
    await connected(client)
    const conversation = client.open(chat.id, { pageSize: 2 })
    await conversation.loaded
    t.equal(conversation.messages.length, 2)
    t.ok(conversation.hasOlder)
    await Promise.all([conversation.loadOlder(), conversation.loadOlder()])
    t.equal(conversation.messages.length, 4)
    await conversation.loadOlder()
    t.notOk(conversation.hasOlder)
    t.same(
      conversation.messages.map(({ seq }) => seq),
      [1, 2, 3, 4, 5, 6],
    )
    const all: string[] = []
    for await (const message of client.messages(chat.id, { limit: 2 })) all.push(message.id)
    t.same(
      all.toReversed(),
      conversation.messages.map(({ id }) => id),
    )
  })

  t.test('leaves its room when the last one of the chat is closed', async (t) => {
    const { client } = await signedInClient(t, { url })
    const chat = await client.rest.createChat()
    await connected(client)
    const left: unknown[] = []
    client.socket.onAnyOutgoing((event, payload) => event === 'leave-chat' && left.push(payload))
    const [one, two] = [client.open(chat.id), client.open(chat.id)]
    one.close()
    one.close()
    t.same(left, [])
    two.close()
    t.same(left, [{ chatId: chat.id }])
    t.same(client.socket.listeners('message-chunk'), [])
  })

  t.test('tells of a chat that is not there, and of one that is deleted', async (t) => {
    const { client } = await signedInClient(t, { url })
    await connected(client)
    const errors: string[] = []
    client.open('0'.repeat(24)).on('error', ({ code }) => errors.push(code))
    await eventually('the error', () => errors.includes('CHAT_NOT_FOUND'))
    const chat = await client.rest.createChat()
    let deleted = ''
    const conversation = client.open(chat.id)
    conversation.on('deleted', ({ chatId }) => {
      deleted = chatId
    })
    await conversation.loaded
    await client.rest.deleteChat(chat.id)
    await eventually('it is told', () => deleted === chat.id)
  })

  t.test('tells a waiting reply’s place, and stops it', async (t) => {
    const { client } = await signedInClient(t, { url })
    const chat = await client.rest.createChat()
    await connected(client)
    const conversation = client.open(chat.id)
    const first = await client.send(chat.id, 'len=2000 rate=20')
    const second = await client.send(chat.id, 'len=1')
    await eventually('it waits', () => conversation.reply(second.reply.id)?.status === 'queued')
    const waiting = conversation.messages.find(({ id }) => id === second.reply.id)
    t.match(waiting && conversation.view(waiting), { status: 'queued' })
    t.equal((await client.stop(chat.id, first.reply.id)).status, 'stopped')
    t.equal((await client.follow(chat.id, second.reply.id)).status, 'complete')
  })
})

t.test('the list of chats', async (t) => {
  const { url } = await startConversation(t)

  t.test('is live, newest activity first, and pages', async (t) => {
    const { client, account } = await signedInClient(t, { url })
    await connected(client)
    const elsewhere = newClient(t, { url })
    await elsewhere.logIn({ username: account.username, password: account.password })
    for (const title of ['a', 'b', 'c']) await elsewhere.rest.createChat({ title })
    const list = client.liveChats({ pageSize: 2 })
    t.teardown(() => list.close())
    const titles = () => list.chats.map(({ title }) => title)
    await list.loaded
    t.same(titles(), ['c', 'b'])
    await list.loadMore()
    t.same(titles(), ['c', 'b', 'a'])
    t.notOk(list.hasMore)
    const created = await elsewhere.rest.createChat({ title: 'd' })
    await eventually('the new chat', () => list.chats.length === 4)
    await elsewhere.rest.updateChat(created.id, { title: 'e' })
    await eventually('the new name', () => titles()[0] === 'e')
    await elsewhere.rest.deleteChat(created.id)
    await eventually('it is gone', () => list.chats.length === 3)
    const all: (string | null)[] = []
    for await (const { title } of client.chats({ limit: 2 })) all.push(title)
    t.same(all, titles())
  })

  t.test('shows what was missed while the connection was away', async (t) => {
    const proxy = await startTcpProxy(t, url)
    const { client, account } = await signedInClient(t, { url: proxy.url })
    await connected(client)
    const list = client.liveChats()
    t.teardown(() => list.close())
    const gone = await client.rest.createChat({ title: 'gone' })
    await eventually('it is there', () => list.chats.length === 1)
    proxy.fail('cut')
    await hear(client.socket, 'disconnect')
    const elsewhere = newClient(t, { url })
    await elsewhere.logIn({ username: account.username, password: account.password })
    await elsewhere.rest.deleteChat(gone.id)
    await elsewhere.rest.createChat({ title: 'new' })
    proxy.repair()
    await eventually('it has caught up', () => list.chats[0]?.title === 'new')
    t.equal(list.chats.length, 1)
  })
})

t.test('every operation has its call', async (t) => {
  const { url } = await startConversation(t)
  const { client } = await signedInClient(t, { url })
  const [model] = await client.rest.models()
  t.ok(model?.name)
  t.equal((await client.rest.health()).status, 'ok')
  const chat = await client.rest.createChat({ title: 'one' })
  t.equal((await client.rest.updateChat(chat.id, { title: 'two' })).title, 'two')
  const reply = await client.ask(chat.id, { content: 'len=2', options: { seed: 1 } })
  t.same(await client.rest.readMessage(chat.id, reply.id), reply)
  t.equal((await client.rest.listMessages(chat.id, { limit: 1 })).messages[0]?.id, reply.id)
  t.equal((await client.rest.listChats()).chats.length, 1)
  await client.logOutEverywhere()
  t.equal(await client.userId(), undefined)
})
