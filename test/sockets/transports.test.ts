import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { MessageChunk } from '../../schemas/messages.js'
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
