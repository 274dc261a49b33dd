import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { ApiError } from '../../schemas/common.js'
import { startApp } from '../services/app.js'
import { converse } from '../services/conversation.js'
import { never, type Script, type Step, startStandIn } from '../services/ollama-stand-in.js'

const isShared = process.env.MONGODB_URI && process.env.REDIS_URL
const skip = !isShared && 'MONGODB_URI or REDIS_URL is not set'

const firstTokenMs = 3_000

/** Two servers over one Ollama, which serves a call as `serve` says of its message. */
async function startTwo(t: Test, serve: (content: string) => AsyncGenerator<Step>) {
  const script: Script = ({ messages }) => serve(messages.at(-1)?.content ?? '')
  const standIn = await startStandIn({ script })
  t.teardown(() => standIn.close())
  const settings = {
    // A database of its own: replies that an earlier run left would be taken over.
    DATA_DIR: join(t.testdir(), randomUUID()),
    OLLAMA_API_URL: standIn.url,
    OLLAMA_FIRST_TOKEN_TIMEOUT_MS: `${firstTokenMs}`,
    OLLAMA_LOAD_TIMEOUT_MS: '20000',
    OLLAMA_CONNECT_TIMEOUT_MS: '1000',
    OLLAMA_IDLE_TIMEOUT_MS: '5000',
  }
  const at = async () => {
    const server = await startApp(t, settings)
    const { newChat, send } = await converse(server.url)
    return {
      send: async (content: string) => send<ApiError>(await newChat(), { content }),
    }
  }
  return { standIn, a: await at(), b: await at() }
}

t.test(
  'a reply that waits behind another server’s at Ollama is no timeout',
  { skip },
  async (t) => {
    let isOver = false
    let whenOver = () => {}
    const over = new Promise<void>((resolve) => {
      whenOver = resolve
    })
    const { standIn, a, b } = await startTwo(t, async function* (content) {
      if (content === 'first') {
        while (!isOver) {
          yield { content: 'x' }
          yield { wait: delay(100) }
        }
        whenOver()
      } else {
        yield { wait: over }
        yield { content: 'y' }
      }
    })
    const first = a.send('first')
    await standIn.chatCall(1)
    const second = b.send('second')
    const waiting = await standIn.chatCall(2)
    await Promise.race([delay(2.5 * firstTokenMs), waiting.whenOver])
    isOver = true
    t.equal((await first).status, 201)
    t.match(await second, { status: 201, body: { reply: { content: 'y' } } })
  },
)

t.test('an Ollama that hangs ends the replies of all servers', { skip }, async (t) => {
  const { standIn, a, b } = await startTwo(t, async function* (content) {
    if (content === 'first') yield { content: 'x' }
    yield { wait: never }
  })
  const first = a.send('first')
  await standIn.chatCall(1)
  const others = [b.send('second'), a.send('third')]
  for (const { status, body } of await Promise.all([first, ...others])) {
    t.match([status, body.code], [504, 'MODEL_TIMEOUT'])
  }
})

t.test(
  'a reply that Ollama lost ends, whatever later ones of another server are told',
  { skip },
  async (t) => {
    let isOver = false
    const { standIn, a, b } = await startTwo(t, async function* (content) {
      if (content === 'lost') yield { wait: never }
      while (!isOver) {
        yield { content: 'x' }
        yield { wait: delay(100) }
      }
    })
    const lost = a.send('lost')
    await standIn.chatCall(1)
    // Longer than OLLAMA_CONNECT_TIMEOUT_MS: surely later.
    await delay(1_200)
    const later = b.send('later')
    t.match(await lost, { status: 504, body: { code: 'MODEL_TIMEOUT' } })
    isOver = true
    t.equal((await later).status, 201)
  },
)
