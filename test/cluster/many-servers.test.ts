import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { io, type Socket } from 'socket.io-client'
import t, { type Test } from 'tap'
import type { Chat, ChatList, ChatWithMessages } from '../../schemas/chats.js'
import type { ActiveReply } from '../../schemas/events.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { followReply } from '../../web/client/follow.js'
import { ReplyText } from '../../web/client/reply-text.js'
import { type ChatSocket, ChatStream } from '../../web/client/stream.js'
import { api, outsideServices, register } from '../services/app.js'
import { startBalancer } from '../services/balancer.js'
import { ask, connect, hear, record } from '../services/client.js'
import { eventually, patienceMs } from '../services/eventually.js'
import { standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { type ServerProcess, startServer } from '../services/server-process.js'
import { deterministic } from '../services/stand-in-script.js'

type Settings = Readonly<Record<string, string>>

const leaseMs = 2000
const { MONGODB_URI, REDIS_URL, REDIS_CLUSTER_URL } = process.env

for (const [where, settings] of [
  ['over one Redis', REDIS_URL && {}],
  ['over a Redis cluster', REDIS_CLUSTER_URL && { REDIS_URL: REDIS_CLUSTER_URL }],
] as const) {
  if (MONGODB_URI && settings) {
    t.test(`three servers as one, ${where}`, (t) => manyServers(t, settings))
    t.test(`one queue for all servers, ${where}`, (t) => oneQueue(t, settings))
  } else {
    const skip = 'MONGODB_URI, REDIS_URL or REDIS_CLUSTER_URL is not set'
    t.test(`three servers as one, ${where}`, { skip }, async () => {})
  }
}

/** Three servers over one database, and what stands before them. */
async function startThree(t: Test, settings: Settings) {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const shared = {
    ...outsideServices(`many-${randomBytes(6).toString('hex')}`),
    JWT_SECRET: randomBytes(32).toString('hex'),
    OLLAMA_API_URL: standIn.url,
    OLLAMA_MAX_CONCURRENT: '20',
    USER_MAX_CONCURRENT: '20',
    LEASE_MS: `${leaseMs}`,
    ...settings,
  }
  const start = async () => {
    const server = await startServer(shared)
    t.teardown(() => server.end('SIGKILL'))
    return server
  }
  const [a, b, c] = await Promise.all([start(), start(), start()])
  const balancer = await startBalancer([a.url, b.url, c.url])
  t.teardown(() => balancer.close())
  const user = await register(a.url)
  const newChat = async (url = b.url) =>
    (await api(url, user.token)<Chat>('POST', '/api/ai/chats', {})).body.id
  return { a, b, c, balancer, standIn, user, newChat, start }
}

/** Sends a message and is not kept waiting. */
async function send(url: string, token: string, chatId: string, content: string): Promise<Turn> {
  const { status, body } = await api(url, token)<Turn>(
    'POST',
    `/api/ai/chats/${chatId}/messages`,
    { content },
    { prefer: 'respond-async' },
  )
  if (status !== 202) throw new Error(`sending answered ${status}: ${JSON.stringify(body)}`)
  return body
}

async function manyServers(t: Test, services: Settings) {
  const { a, b, c, balancer, standIn, user, newChat, start } = await startThree(t, services)
  const { token } = user

  t.test('a message sent to one is heard on all', async (t) => {
    const chatId = await newChat()
    const sockets = await Promise.all([a, b, c].map(({ url }) => connect(t, url, token)))
    const heard = sockets.map(record)
    const updated = sockets.map((socket) => hear(socket, 'chat-updated'))
    for (const socket of sockets) t.match(await ask(socket, 'join-chat', { chatId }), { ok: true })
    const content = 'len=900 rate=300 think=90'
    const { message, reply } = await send(a.url, token, chatId, content)
    for (const one of heard) {
      t.match(await one.message(message.id), { content })
      t.match(await one.message(reply.id), { status: 'complete', content: standInReply(content) })
      t.equal(one.text(reply.id), standInReply(content), 'no gap and no overlap')
      t.ok(one.starts.some(({ id }) => id === reply.id))
    }
    for (const one of updated) t.match(await one, [{ chat: { id: chatId } }])
  })

  t.test('a stream begun on one is rejoined on another, from any offset', async (t) => {
    const chatId = await newChat()
    const content = 'len=6000 rate=150'
    const whole = standInReply(content)
    const { reply } = await send(a.url, token, chatId, content)
    const path = `/api/ai/chats/${chatId}/messages/${reply.id}/stream`
    const streamed = followReply(
      fetch,
      `${c.url}${path}`,
      token,
      new ReplyText(reply.id),
      AbortSignal.timeout(patienceMs),
    )
    const first = await connect(t, b.url, token)
    const watching = record(first)
    await ask(first, 'join-chat', { chatId })
    await watching.until(() => watching.chunks.find((chunk) => chunk.offset > 500))
    const rejoin = async (offset: number) => {
      const socket = await connect(t, b.url, token)
      const heard = record(socket)
      const asked = { chatId, messageId: reply.id, epoch: 1, offset }
      const { active } = (await ask(socket, 'join-chat', asked)) as { active: ActiveReply[] }
      const [joined] = active
      // From inside a surrogate pair, the whole pair comes again.
      const from = offset - Number(/^[\udc00-\udfff]/.test(whole.slice(offset)))
      t.match(joined, { status: 'streaming', offset: from })
      await heard.message(reply.id)
      t.equal(joined?.text + heard.text(reply.id), whole.slice(from), `from ${offset}`)
    }
    await Promise.all([0, 1, 150, 300, 499, 500].map(rejoin))
    t.equal((await streamed).content, whole, 'over server-sent events')
  })

  t.test('a stop sent to one ends it on another', async (t) => {
    const chatId = await newChat()
    const content = 'len=90000 rate=100'
    const socket = await connect(t, b.url, token)
    const heard = record(socket)
    await ask(socket, 'join-chat', { chatId })
    const nextCall = standIn.callsOf('/api/chat').length + 1
    const { reply } = await send(a.url, token, chatId, content)
    const call = await standIn.chatCall(nextCall)
    await heard.until(() => (heard.text(reply.id).length > 50 ? true : undefined))
    const path = `/api/ai/chats/${chatId}/messages/${reply.id}/stop`
    const stopped = await api(c.url, token)<Message>('POST', path)
    t.match(stopped, { status: 200, body: { status: 'stopped' } })
    await call.whenClosed
    const told = await heard.message(reply.id)
    t.equal(told.content, stopped.body.content)
    t.ok(standInReply(content).startsWith(told.content))
    t.ok(told.content.length >= heard.text(reply.id).length, 'what was heard is kept')
  })

  t.test('a chat deleted on one stops what runs on another, and no row comes back', async (t) => {
    const chatId = await newChat()
    const socket = await connect(t, a.url, token)
    await ask(socket, 'join-chat', { chatId })
    const gone = hear(socket, 'chat-deleted')
    const nextCall = standIn.callsOf('/api/chat').length + 1
    await send(a.url, token, chatId, 'len=90000 rate=100')
    const call = await standIn.chatCall(nextCall)
    t.equal((await api(c.url, token)('DELETE', `/api/ai/chats/${chatId}`)).status, 204)
    await call.whenClosed
    t.same(await gone, [{ chatId }])
    for (const { url } of [a, b, c]) {
      t.equal((await api(url, token)('GET', `/api/ai/chats/${chatId}`)).status, 404)
    }
  })

  t.test('a page that one has kept is not served after a change at another', async (t) => {
    const chatId = await newChat()
    const path = `/api/ai/chats/${chatId}`
    const callA = api(a.url, token)
    const socket = await connect(t, a.url, token)
    const others = [b, c].map(({ url }) => api(url, token))
    const readAll = () =>
      Promise.all(
        others.flatMap((call) =>
          [1, 50].map(async (limit) => {
            const chat = await call<ChatWithMessages>('GET', `${path}?limit=${limit}`)
            const list = await call<ChatList>('GET', `/api/ai/chats?limit=${limit}`)
            return { status: chat.status, ...chat.body, first: list.body.chats[0] }
          }),
        ),
      )
    const keep = async () => {
      for (let n = 0; n < 2; n++) await readAll()
    }
    for (let n = 0; n < 10; n++) {
      const title = `title ${n}`
      await keep()
      t.equal((await callA('PATCH', path, { title })).status, 200)
      for (const page of await readAll()) t.match(page, { title, first: { id: chatId, title } })

      await keep()
      const content = `len=20 seed=${n}`
      const { reply } =
        n % 2 === 0
          ? await send(a.url, token, chatId, content)
          : await ask(socket, 'chat-message', { chatId, content })
      for (const { messages, first } of await readAll()) {
        t.equal(messages.at(-1)?.id, reply.id)
        t.match(first, { id: chatId, messageCount: 2 * (n + 1) })
      }
      await eventually('its end is read', async () =>
        (await readAll()).every(({ messages }) => messages.at(-1)?.status === 'complete'),
      )
    }
    await keep()
    t.equal((await callA('DELETE', path)).status, 204)
    for (const { status, first } of await readAll()) {
      t.equal(status, 404)
      t.not(first?.id, chatId)
    }
  })

  t.test('who logs out on one is gone from all', async (t) => {
    const other = await register(b.url)
    const sockets = await Promise.all(
      [a, b, c].map(({ url }) => connect(t, url, other.token, { reconnection: false })),
    )
    const gone = sockets.map((socket) => hear(socket, 'disconnect'))
    t.equal((await api(c.url, other.token)('POST', '/api/auth/logout')).status, 204)
    for (const one of gone) t.ok(await one)
    t.equal((await api(a.url, other.token)('GET', '/api/auth/profile')).status, 401)
  })

  t.test(
    'one killed in the middle of ten replies: the others go on, every client is right',
    async (t) => {
      const contents = Array.from({ length: 10 }, (_, n) => `len=2400 rate=80 seed=${n}`)
      const callsBefore = standIn.callsOf('/api/chat').length
      const clients = await Promise.all(
        contents.map(async (content) => {
          const chatId = await newChat()
          const socket = dial(t, balancer.url, token)
          const ended = ending(socket, chatId)
          const { reply } = await send(a.url, token, chatId, content)
          return { chatId, content, reply, ended }
        }),
      )
      await standIn.chatCall(callsBefore + 10)
      await a.end('SIGKILL')
      for (const { chatId, content, reply, ended } of clients) {
        t.match(await ended(reply.id), { status: 'complete', content: standInReply(content) })
        const { body } = await api(b.url, token)<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
        t.same(
          body.messages.map((message) => [message.status, message.content]),
          [
            ['complete', content],
            ['complete', standInReply(content)],
          ],
          'stored once',
        )
      }
      t.equal(takeovers(b, c), 10)
    },
  )

  t.test('one stopped for twice its lease and continued: one winner', async (t) => {
    const d = await start()
    const content = 'len=1500 rate=100'
    const chatId = await newChat()
    const late = await connect(t, d.url, token, { reconnection: false })
    const heardLate = record(late)
    await ask(late, 'join-chat', { chatId })
    const socket = await connect(t, b.url, token)
    const heard = record(socket)
    await ask(socket, 'join-chat', { chatId })
    const { reply } = await send(d.url, token, chatId, content)
    await heard.chunk(reply.id)
    d.child.kill('SIGSTOP')
    await delay(2 * leaseMs)
    d.child.kill('SIGCONT')
    t.match(await heard.message(reply.id), { status: 'complete', content: standInReply(content) })
    t.match(await heardLate.message(reply.id), { content: standInReply(content) })
    t.equal(heard.messages.filter(({ id }) => id === reply.id).length, 1, 'told once')
    const revived = heardLate.chunks.findIndex(({ epoch }) => epoch === 2)
    t.ok(
      heardLate.chunks.slice(Math.max(revived, 0)).every(({ epoch }) => revived < 0 || epoch === 2),
      'the old owner says nothing more',
    )
    const { body } = await api(c.url, token)<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    t.equal(body.messages.length, 2)
    t.equal(await d.end('SIGTERM'), 0)
  })
}

async function oneQueue(t: Test, services: Settings) {
  const limits = { OLLAMA_MAX_CONCURRENT: '3', USER_MAX_CONCURRENT: '2', QUEUE_MAX: '12' }
  const { a, b, c, standIn, user, newChat } = await startThree(t, { ...services, ...limits })
  const other = await register(b.url)
  const running: string[] = []
  const most = { all: 0, ofUser: 0 }
  const order: string[] = []
  /** No reply goes on before it is resolved. */
  let gate = Promise.resolve()
  standIn.setScript(async function* (body, model) {
    const prompt = body.messages.at(-1)?.content ?? ''
    const owner = /\bof=(\w+)/.exec(prompt)?.[1] ?? ''
    running.push(owner)
    order.push(owner)
    most.all = Math.max(most.all, running.length)
    most.ofUser = Math.max(most.ofUser, running.filter((one) => one === 'user').length)
    try {
      yield { wait: gate }
      yield* deterministic(body, model)
    } finally {
      running.splice(running.indexOf(owner), 1)
    }
  })

  t.test('the limits hold over all of them, and users take turns', async (t) => {
    const urls = [a.url, b.url, c.url]
    let open = () => {}
    gate = new Promise((resolve) => {
      open = resolve
    })
    const sent = await Promise.all(
      Array.from({ length: 9 }, async (_, n) => {
        const url = urls[n % 3] ?? ''
        const chatId = await newChat(url)
        const content = `of=user len=60 rate=100 seed=${n}`
        return { url, chatId, content, ...(await send(url, user.token, chatId, content)) }
      }),
    )
    const { body: chat } = await api(c.url, other.token)<Chat>('POST', '/api/ai/chats', {})
    await eventually('two of the user run', () => order.length === 2)
    const late = await send(c.url, other.token, chat.id, 'of=other len=10')
    await eventually('the other user’s runs beside them', () => order.length === 3)
    t.equal(order[2], 'other')
    open()
    const messageOf = async (url: string, token: string, chatId: string, id: string) => {
      const path = `/api/ai/chats/${chatId}/messages/${id}/stream`
      return followReply(
        fetch,
        url + path,
        token,
        new ReplyText(id),
        AbortSignal.timeout(patienceMs),
      )
    }
    await messageOf(a.url, other.token, chat.id, late.reply.id)
    for (const { url, chatId, content, reply } of sent) {
      const message = await messageOf(url, user.token, chatId, reply.id)
      t.match(message, { status: 'complete', content: standInReply(content) })
    }
    t.equal(most.ofUser, 2)
    t.ok(most.all <= 3)
  })

  t.test('a chat generates one reply at a time, whichever servers are asked', async (t) => {
    const chatId = await newChat()
    const contents = [a, b, c, a, b].map((_, n) => `of=user len=40 rate=100 seed=${n}`)
    for (const [n, content] of contents.entries()) {
      await send([a, b, c][n % 3]?.url ?? '', user.token, chatId, content)
    }
    let replies: Message[] = []
    await eventually('the last has ended', async () => {
      const path = `/api/ai/chats/${chatId}`
      const { body } = await api(b.url, user.token)<ChatWithMessages>('GET', path)
      replies = body.messages.filter(({ role }) => role === 'assistant')
      return replies.at(-1)?.status === 'complete'
    })
    t.same(
      replies.map(({ content }) => content),
      contents.map(standInReply),
    )
    const ends = replies.map(({ completedAt }) => completedAt)
    t.same(ends, [...ends].sort(), 'in order')
  })

  t.test('past QUEUE_MAX it is said before anything is stored', async (t) => {
    const call = api(a.url, user.token)
    const chats = await Promise.all(Array.from({ length: 24 }, () => newChat()))
    // A server knows how many wait at others from a moment ago.
    const statuses: number[] = []
    for (const [n, chatId] of chats.entries()) {
      const url = [a, b, c][n % 3]?.url ?? ''
      const { status, headers } = await api(url, user.token)<Turn>(
        'POST',
        `/api/ai/chats/${chatId}/messages`,
        { content: `of=user len=3000 rate=50 seed=${n}` },
        { prefer: 'respond-async' },
      )
      statuses.push(status)
      if (status === 503) t.ok(Number(headers.get('retry-after')) > 0)
      if (n % 6 === 5) await delay(leaseMs / 3 + 100)
    }
    const accepted = statuses.filter((status) => status === 202).length
    t.ok(accepted >= 14 && accepted <= 14 + 6, `${accepted} accepted`)
    const refused = chats[statuses.lastIndexOf(503)]
    const { body } = await call<ChatWithMessages>('GET', `/api/ai/chats/${refused}`)
    t.same(body.messages, [])
    await Promise.all(chats.map((chatId) => call('DELETE', `/api/ai/chats/${chatId}`)))
  })

  t.test('a dead server’s places are given back', async (t) => {
    const chats = await Promise.all([newChat(), newChat(), newChat()])
    for (const [n, chatId] of chats.entries()) {
      const path = `/api/ai/chats/${chatId}/messages`
      const body = { content: 'of=user len=100000 rate=20' }
      const headers = { prefer: 'respond-async', 'idempotency-key': `dead-${n}` }
      // It hears a moment later that nobody waits any more at the others.
      await eventually('it is accepted', async () => {
        return (await api(a.url, user.token)('POST', path, body, headers)).status === 202
      })
    }
    await a.end('SIGKILL')
    const { body: chat } = await api(c.url, other.token)<Chat>('POST', '/api/ai/chats', {})
    for (let n = 0; n < 3; n += 1) {
      const path = `/api/ai/chats/${chat.id}/messages`
      const done = await api(c.url, other.token)<Turn>('POST', path, { content: 'of=other len=9' })
      t.equal(done.status, 201)
    }
    const call = api(b.url, user.token)
    for (const chatId of chats) {
      t.equal((await call('DELETE', `/api/ai/chats/${chatId}`)).status, 204)
    }
    const last = await call<Turn>('POST', `/api/ai/chats/${await newChat()}/messages`, {
      content: 'of=user len=9',
    })
    t.equal(last.status, 201)
  })
}

/** A socket that finds another server when its own is gone. */
function dial(t: Test, url: string, token: string): Socket {
  const socket = io(url, {
    auth: { token },
    transports: ['websocket'],
    forceNew: true,
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
  })
  t.teardown(() => socket.disconnect())
  return socket
}

/** Follows a chat as the reference client does. @returns a reply's final text, as the client has it. */
function ending(socket: Socket, chatId: string) {
  const waiting = new Set<() => void>()
  const stream = new ChatStream(socket as ChatSocket, chatId, {
    onChange: () => {
      for (const look of waiting) look()
    },
  })
  return (messageId: string) =>
    new Promise<{ status: string | undefined; content: string }>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the reply did not end')), patienceMs)
      const look = () => {
        const reply = stream.reply(messageId)
        if (!reply?.ended) return
        clearTimeout(timer)
        waiting.delete(look)
        resolve({ status: reply.status, content: reply.text })
      }
      waiting.add(look)
      look()
    })
}

/** How many replies these servers have taken over. */
function takeovers(...servers: ServerProcess[]): number {
  const lines = servers.flatMap(({ lines }) => lines)
  return lines.filter((line) => line.includes('reply taken over')).length
}
