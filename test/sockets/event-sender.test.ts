import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { MessageChunk } from '../../schemas/messages.js'
import { type ChatSocket, idleConnectionOf } from '../../src/sockets/chat-socket.js'
import { embedded } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import type { Script } from '../services/ollama-stand-in.js'

/** Texts whose frames have short and long heads, and in which a unit is one to three bytes. */
const pieces = ['a', '漢字', '😀'.repeat(40), 'é'.repeat(150), 'end']

t.test('whatever a client speaks, it hears the same frames in the same order', async (t) => {
  let begin = () => {}
  const all = new Promise<void>((resolve) => {
    begin = resolve
  })
  const script: Script = async function* () {
    yield { wait: all }
    for (let n = 0; n < 20; n++) {
      for (const content of pieces) {
        yield { content }
        yield { wait: delay(1) }
      }
    }
  }
  const { url, user, newChat } = await startConversation(t, {}, { script })
  const chatId = await newChat()
  const ways = {
    websocket: { transports: ['websocket'] },
    polling: { transports: ['polling'] },
    // Goes over to a WebSocket while the reply runs.
    upgrading: { transports: ['polling', 'websocket'], upgrade: true },
  }
  const clients = await Promise.all(
    Object.entries(ways).map(async ([way, options]) => {
      const socket = await connect(t, url, user.token, options)
      const events: unknown[] = []
      socket.onAny((name, payload) => events.push([name, payload]))
      await ask(socket, 'join-chat', { chatId })
      return { way, socket, heard: record(socket), events }
    }),
  )
  const [first] = clients
  if (!first) return t.fail('no client')
  const { reply } = await ask(first.socket, 'chat-message', { chatId, content: 'go' })
  begin()
  const whole = pieces.join('').repeat(20)
  for (const { way, heard } of clients) {
    const { content } = await heard.message(reply.id)
    t.ok(content === whole, `${way}: the record is whole`)
    t.ok(heard.text(reply.id) === whole, `${way}: so are the frames`)
    let length = 0
    for (const { offset, delta } of heard.chunks as MessageChunk[]) {
      if (offset !== length) t.fail(`${way}: a frame at ${offset} after ${length}`)
      length += delta.length
    }
  }
  const [expected, ...others] = clients.map(({ events }) => JSON.stringify(events))
  t.ok(
    others.every((events) => events === expected),
    'each hears all, in one order',
  )
})

t.test('what a turn of the loop says to a socket goes in one write', async (t) => {
  let begin = () => {}
  const all = new Promise<void>((resolve) => {
    begin = resolve
  })
  const script: Script = async function* () {
    yield { wait: all }
    yield { content: 'yes' }
  }
  // A store or a cache that is asked over a network answers in turns of its own.
  const { app, url, user, newChat } = await startConversation(t, embedded, { script })
  const chatId = await newChat()
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const names: string[] = []
  socket.onAny((name) => names.push(name))
  const [server] = await app.io.fetchSockets()
  const connection = server && idleConnectionOf(app.io.sockets.sockets.get(server.id) as ChatSocket)
  if (!connection) return t.fail('no connection')
  let writes = 0
  for (const name of ['_write', '_writev'] as const) {
    const write = connection[name] as (...values: unknown[]) => void
    connection[name] = (...values: unknown[]) => {
      writes++
      write.apply(connection, values)
    }
  }
  const { reply } = await ask(socket, 'chat-message', { chatId, content: 'go' })
  t.same(names, ['message', 'message-start', 'chat-updated'])
  t.equal(writes, 1, 'these three, and the acknowledgement')
  begin()
  await heard.message(reply.id)
  t.equal(heard.text(reply.id), 'yes')
})
