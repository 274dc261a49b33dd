import t from 'tap'
import type { Message } from '../../schemas/messages.js'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { faults } from '../services/ollama-stand-in.js'

/** How each fault ends; what is not here is Ollama's nonsense. */
const codes: Partial<Record<string, string>> = {
  notFound: 'MODEL_NOT_FOUND',
  serverError: 'MODEL_FAILED',
  errorLine: 'MODEL_FAILED',
  errorLineAndEnd: 'MODEL_FAILED',
  hangInErrorBody: 'MODEL_FAILED',
  hangBeforeHeaders: 'MODEL_TIMEOUT',
  hangBeforeTokens: 'MODEL_TIMEOUT',
  hangBetweenTokens: 'MODEL_TIMEOUT',
  byteASecond: 'MODEL_TIMEOUT',
  cut: 'MODEL_CUT',
  cutInLine: 'MODEL_CUT',
  cutCleanly: 'MODEL_CUT',
  cutBeforeHeaders: 'MODEL_UNREACHABLE',
}

t.test('whatever Ollama does wrong: one typed end, and its slot is free again', async (t) => {
  const { standIn, app, url, user, newChat, read, send } = await startConversation(t, {
    OLLAMA_FIRST_TOKEN_TIMEOUT_MS: '1500',
    OLLAMA_IDLE_TIMEOUT_MS: '700',
    OLLAMA_MAX_CONCURRENT: '3',
    USER_MAX_CONCURRENT: '3',
  })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const names = Object.keys(faults)
  t.ok(names.length > 20)
  const replies = await Promise.all(
    names.map(async (name) => {
      const content = `fault=${name} after=0`
      const sent = await ask(socket, 'chat-message', { chatId: await newChat(), content })
      return sent.reply as Message
    }),
  )
  for (const [n, { id, chatId }] of replies.entries()) {
    const name = names[n] ?? ''
    const end = await heard.until(() => heard.messages.find((one) => one.id === id))
    t.match(
      end,
      {
        status: 'error',
        error: { code: codes[name] ?? 'MODEL_BAD_RESPONSE', message: /\w/ },
        completedAt: String,
      },
      name,
    )
    t.equal(heard.text(id), end.content, `${name}: what came before is kept`)
    t.same((await read(chatId)).messages[1], end, `${name}: as it was told`)
    const call = standIn
      .callsOf('/api/chat')
      .find(({ body }) => body.messages.at(-1)?.content === `fault=${name} after=0`)
    await call?.whenOver
    t.ok(call, `${name}: and Ollama is done with it`)
  }
  t.same(app.generations.counts, { waiting: 0, running: 0 })
  const again = await Promise.all(
    Array.from(
      { length: 6 },
      async () => (await send(await newChat(), { content: 'len=9' })).status,
    ),
  )
  t.same(again, Array(6).fill(201))
  const ends = heard.messages.filter(({ role }) => role === 'assistant')
  t.equal(ends.length, new Set(ends.map(({ id }) => id)).size, 'each ended once')
})

t.test('an Ollama that is down fails what was accepted; the next one is served', async (t) => {
  const { standIn, app, url, user, newChat, send } = await startConversation(t)
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  const { reply } = await ask(socket, 'chat-message', { chatId, content: 'len=9000 rate=200' })
  await heard.chunk(reply.id)
  await standIn.stop()
  t.match(await heard.message(reply.id), { status: 'error', error: { code: 'MODEL_CUT' } })
  const refused = await ask(socket, 'chat-message', { chatId, content: 'len=5' })
  t.match(await heard.message(refused.reply.id), {
    status: 'error',
    content: '',
    error: { code: 'MODEL_UNREACHABLE' },
  })
  await eventually('slots are free', () => app.generations.counts.running === 0)
  await standIn.restart()
  t.equal((await send(chatId, { content: 'len=5' })).status, 201)
})
