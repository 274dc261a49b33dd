import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server, type Socket as ServerSocket } from 'socket.io'
import { io } from 'socket.io-client'
import t from 'tap'
import type { ReplyText } from '../../../web/client/reply-text.js'
import { ChatStream, type JoinFault } from '../../../web/client/stream.js'
import { chatId, ModelReply, messageId, type Random, randomFrom } from './model-reply.js'

interface Ended {
  teardown(end: () => unknown): unknown
}

interface Join {
  chatId: string
  messageId?: string
  epoch?: number
  offset?: number
}

/** Closes every connection as a broken network would; `disconnectSockets` says goodbye. */
function cutAll(server: Server): void {
  for (const socket of server.sockets.sockets.values()) socket.conn.close()
}

/** A socket.io server that answers joins with `answer`, and a client of it. */
async function connect(t: Ended, answer: (join: Join) => unknown) {
  const http = createServer()
  const server = new Server(http, { transports: ['websocket'] })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const joins: Join[] = []
  server.on('connection', (socket) => {
    socket.on('join-chat', async (join: Join, acknowledge: (answer: unknown) => void) => {
      joins.push(join)
      socket.join(join.chatId)
      acknowledge(await answer(join))
    })
  })
  const client = io(`http://127.0.0.1:${(http.address() as AddressInfo).port}`, {
    transports: ['websocket'],
    reconnectionDelay: 5,
    reconnectionDelayMax: 5,
    autoConnect: false,
  })
  t.teardown(async () => {
    client.close()
    await server.close()
  })
  /** Follows the chat; `reached` resolves once the condition holds of the reply. */
  const follow = () => {
    const waiting = new Set<() => void>()
    const errors: JoinFault[] = []
    const stream = new ChatStream(client, chatId, {
      onChange: () => {
        for (const check of waiting) check()
      },
      onError: (error) => {
        errors.push(error)
        for (const check of waiting) check()
      },
    })
    t.teardown(() => stream.close())
    const reached = (condition: (reply: ReplyText | undefined) => boolean) =>
      new Promise<void>((resolve) => {
        const check = () => {
          if (!condition(stream.reply(messageId))) return
          waiting.delete(check)
          resolve()
        }
        waiting.add(check)
        check()
      })
    return { stream, errors, reached }
  }
  return { server, client, joins, follow }
}

const active = (text: string, fields: object = {}) => ({
  ok: true,
  active: [{ messageId, epoch: 1, status: 'streaming', offset: 0, text, ...fields }],
})

const chunk = (offset: number, delta: string) => ({ chatId, messageId, epoch: 1, offset, delta })

t.test('joins once connected, takes what is active, and appends what comes', async (t) => {
  const { server, client, joins, follow } = await connect(t, () => active('Hel'))
  const { stream, reached } = follow()
  client.connect()
  await reached((reply) => reply?.text === 'Hel')
  server.to(chatId).emit('message-chunk', chunk(3, 'lo'))
  server.to(chatId).emit('message-chunk', { ...chunk(0, 'other'), chatId: 'd'.repeat(24) })
  await reached((reply) => reply?.text === 'Hello')
  server.to(chatId).emit('message', new ModelReply(randomFrom(1)).message())
  await reached((reply) => reply?.ended === true)
  t.strictSame(joins, [{ chatId }])
  stream.close()
  t.strictSame(client.listeners('message-chunk'), [])
})

t.test('rejoins once at a gap, and keeps the frames that come meanwhile', async (t) => {
  let release = () => {}
  const { server, client, joins, follow } = await connect(t, async (join) => {
    if (join.messageId === undefined) return active('Hel')
    await new Promise<void>((resolve) => {
      release = resolve
    })
    return active('lo wor', { offset: 3 })
  })
  const { stream, reached } = follow()
  client.connect()
  await reached((reply) => reply?.text === 'Hel')
  for (const frame of [chunk(5, ' wor'), chunk(9, 'l'), chunk(10, 'd')]) {
    server.to(chatId).emit('message-chunk', frame)
  }
  // An acknowledgement tells that the client has all that was sent before.
  client.on('told', (acknowledge: () => void) => acknowledge())
  await server.timeout(5000).to(chatId).emitWithAck('told')
  t.equal(stream.reply(messageId)?.text, 'Hel')
  release()
  await reached((reply) => reply?.text === 'Hello world')
  t.strictSame(joins.slice(1), [{ chatId, messageId, epoch: 1, offset: 3 }])
})

t.test('after a reconnect asks for each reply that has not ended', async (t) => {
  const { server, client, joins, follow } = await connect(t, ({ offset = 0 }) =>
    active('Hello'.slice(offset), { offset, status: offset > 0 ? 'complete' : 'streaming' }),
  )
  const { reached } = follow()
  client.connect()
  await reached((reply) => reply?.text === 'Hello')
  cutAll(server)
  await once(server, 'connection')
  await reached((reply) => reply?.ended === true)
  t.strictSame(joins.at(-1), { chatId, messageId, epoch: 1, offset: 5 })
})

t.test('tries again where the server says so, and tells of a refusal', async (t) => {
  let asked = 0
  const { client, follow } = await connect(t, () => {
    asked += 1
    const code = asked === 1 ? 'STORE_UNAVAILABLE' : 'CHAT_NOT_FOUND'
    return { ok: false, error: { code, message: '', retryable: asked === 1 } }
  })
  const { errors, reached } = follow()
  client.connect()
  await reached(() => errors.length > 0)
  t.strictSame(
    errors.map(({ code }) => code),
    ['CHAT_NOT_FOUND'],
  )
  t.equal(asked, 2)
})

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

/** Sends what the model generates, badly, with takeovers and broken connections. */
async function misbehave(server: Server, model: ModelReply, random: Random) {
  for (let step = 0; step < 400; step += 1) {
    if (random.chance(0.02)) model.takeOver()
    const frame = model.generate()
    if (!random.chance(0.1)) server.to(chatId).emit('message-chunk', frame)
    if (random.chance(0.1)) server.to(chatId).emit('message-chunk', model.frameAnywhere())
    if (random.chance(0.01)) cutAll(server)
    if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve))
  }
}

t.test(`over a bad network the text comes right before its message (SEED=${seed})`, async (t) => {
  const random = randomFrom(seed)
  const model = new ModelReply(random)
  const { server, client, follow } = await connect(t, async (join) => {
    const answer = model.join(join)
    if (random.chance(0.5)) await new Promise((resolve) => setImmediate(resolve))
    return { ok: true, active: [answer] }
  })
  const { reached } = follow()
  client.connect()
  await once(server, 'connection')
  await misbehave(server, model, random)
  // The end is told often enough that one frame of it arrives, whenever the client is back.
  const tell = () => server.to(chatId).emit('message-chunk', model.frameAnywhere())
  server.on('connection', (socket: ServerSocket) => socket.on('join-chat', tell))
  const telling = setInterval(tell, 20)
  t.teardown(() => clearInterval(telling))
  await reached((reply) => reply?.text === model.text && reply.thinking === model.thinking)
  t.pass('the text and the thinking are the server’s')
})
