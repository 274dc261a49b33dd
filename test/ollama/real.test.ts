import t, { type Test } from 'tap'
import type { Chat } from '../../schemas/chats.js'
import type { Message, Turn } from '../../schemas/messages.js'
import type { ModelList } from '../../schemas/models.js'
import { api, register, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { startServer } from '../services/server-process.js'
import { startTcpProxy } from '../services/tcp-proxy.js'

const url = process.env.TEST_OLLAMA_URL
const continuing = 'smollm2:135m'
const guessed = 'smollm2-guessed:135m'
/** Few tokens, since there are but a few a second here; the same every time. */
const options = { num_predict: 24, temperature: 0, seed: 7 }

if (url) {
  t.setTimeout(900_000)
  t.test('the real Ollama', (t) => conversation(t, url))
} else t.test('the real Ollama', { skip: 'TEST_OLLAMA_URL is not set' }, async () => {})

async function conversation(t: Test, ollamaUrl: string) {
  const proxy = await startTcpProxy(t, ollamaUrl)
  const server = await startApp(t, {
    OLLAMA_API_URL: proxy.url,
    OLLAMA_FIRST_TOKEN_TIMEOUT_MS: '120000',
    OLLAMA_IDLE_TIMEOUT_MS: '60000',
  })
  const user = await register(server.url)
  const call = api(server.url, user.token)
  const socket = await connect(t, server.url, user.token)
  const heard = record(socket)
  const newChat = async (more: object = {}) => {
    const chat = { model: continuing, options, ...more }
    const { body } = await call<Chat>('POST', '/api/ai/chats', chat)
    await ask(socket, 'join-chat', { chatId: body.id })
    return body.id
  }
  const send = (chatId: string, body: object, headers: Record<string, string> = {}) =>
    call<Turn & { code: string }>('POST', `/api/ai/chats/${chatId}/messages`, body, headers)
  const later = { prefer: 'respond-async' }
  const ended = (id: string) =>
    heard.until(() => heard.messages.find((message) => message.id === id), 120_000)

  t.test('lists its models with what they can do', async (t) => {
    const { body } = await call<ModelList>('GET', '/api/ai/models')
    t.same(body.models.map(({ name }) => name).sort(), [guessed, continuing].sort())
    t.match(body.models[0], { capabilities: ['completion'], details: { family: 'llama' } })
  })

  t.test('streams a reply and tells what it took', async (t) => {
    const chatId = await newChat()
    const { body } = await send(chatId, { content: 'What is the capital of France?' }, later)
    const reply = await ended(body.reply.id)
    t.equal(reply.status, 'complete')
    t.match(reply.content, /Paris/)
    t.equal(heard.text(reply.id), reply.content)
    const { usage } = reply
    t.ok(usage?.promptTokens && usage.replyTokens && usage.tokensPerSecond && usage.totalMs)
    t.equal(usage?.contextLength, 4096, 'the window that is loaded, not the one it was trained for')
    t.match(usage, { messagesSent: 1, messagesDropped: 0 })
    t.match(await send(chatId, { content: 'And of Italy?' }), { status: 201 })
  })

  t.test('a stop frees the runner at once', async (t) => {
    const chatId = await newChat({ options: { ...options, num_predict: 2000 } })
    const { body } = await send(chatId, { content: 'Tell me a very long story.' }, later)
    const { id } = body.reply
    await heard.until(() => heard.chunks.find((chunk) => chunk.messageId === id), 120_000)
    const stopped = await call<Message>('POST', `/api/ai/chats/${chatId}/messages/${id}/stop`)
    t.match(stopped, { status: 200, body: { status: 'stopped' } })
    t.match(await send(await newChat(), { content: 'Hello' }), { status: 201 })
  })

  t.test('two chats at once each get their own', async (t) => {
    const questions = ['What is the capital of France?', 'Say hello to Alice.']
    const turns = await Promise.all(
      questions.map(async (content) => send(await newChat(), { content })),
    )
    const alone = await Promise.all(
      questions.map(async (content) =>
        send(await newChat(), { content, options: { ...options, num_predict: 23 } }),
      ),
    )
    for (const [n, { status, body }] of turns.entries()) {
      t.equal(status, 201)
      t.ok(body.reply.content.startsWith(alone[n]?.body.reply.content.slice(0, 40) ?? '-'))
    }
  })

  t.test('a model that is not there, and thinking that a model cannot', async (t) => {
    const chatId = await newChat()
    t.match(await send(chatId, { content: 'Hello', model: 'nope' }), {
      status: 404,
      body: { code: 'MODEL_NOT_FOUND' },
    })
    const failed = await send(chatId, { content: 'Hello', options: { think: true } })
    t.match(failed, { status: 502, body: { code: 'MODEL_FAILED', message: /think/ } })
  })

  t.test(
    'a conversation longer than the window loses its oldest exchanges, and says so',
    async (t) => {
      const chatId = await newChat({ options: { ...options, num_ctx: 512, num_predict: 16 } })
      const long = 'The quick brown fox jumps over the lazy dog. '.repeat(12)
      let usage: Message['usage']
      for (let n = 0; n < 5; n += 1) {
        const { status, body } = await send(chatId, { content: `${n}: ${long}` })
        t.equal(status, 201)
        usage = body.reply.usage
      }
      t.ok((usage?.messagesDropped ?? 0) > 0, `${usage?.messagesDropped} dropped`)
      t.ok((usage?.promptTokens ?? 513) + 16 <= 512, `${usage?.promptTokens} tokens sent`)
      t.match(await send(chatId, { content: long.repeat(20) }), {
        status: 400,
        body: { code: 'MESSAGE_TOO_LONG' },
      })
    },
  )

  t.test(
    'Ollama lost in the middle of a reply is one error, and it works once it is back',
    async (t) => {
      const chatId = await newChat({ options: { ...options, num_predict: 500 } })
      const { body } = await send(chatId, { content: 'Tell me a very long story.' }, later)
      const { id } = body.reply
      await heard.until(() => heard.chunks.find((chunk) => chunk.messageId === id), 120_000)
      proxy.fail('cut')
      const failed = await ended(id)
      t.match(failed, { status: 'error', error: { code: /^MODEL_(CUT|UNREACHABLE)$/ } })
      t.ok(failed.content.startsWith(heard.text(id)), 'with its text')
      proxy.repair()
      t.match(await send(await newChat(), { content: 'Hello' }), { status: 201 })
    },
  )

  for (const model of [continuing, guessed]) {
    t.test(`a takeover of ${model} ends with a whole text`, async (t) => {
      const DATA_DIR = t.testdir()
      const settings = { DATA_DIR, OLLAMA_API_URL: ollamaUrl, OLLAMA_IDLE_TIMEOUT_MS: '60000' }
      const first = await startServer(settings)
      t.teardown(() => first.end('SIGKILL'))
      const owner = await register(first.url)
      const asked = api(first.url, owner.token)
      const { body: chat } = await asked<Chat>('POST', '/api/ai/chats', {
        model,
        options: { ...options, num_predict: 60 },
      })
      const path = `/api/ai/chats/${chat.id}/messages`
      const { body } = await asked<Turn>('POST', path, { content: 'Count to twenty.' }, later)
      const kept = await checkpointed(asked, chat.id)
      await first.end('SIGKILL')
      const second = await startServer(settings)
      t.teardown(() => second.end('SIGKILL'))
      const listening = await connect(t, second.url, owner.token)
      const hears = record(listening)
      const { active } = await ask(listening, 'join-chat', {
        chatId: chat.id,
        messageId: body.reply.id,
      })
      t.match(active, [{ epoch: 2, messageId: body.reply.id }])
      const reply = await hears.until(
        () => hears.messages.find((message) => message.id === body.reply.id),
        120_000,
      )
      t.equal(reply.status, 'complete')
      if (model === continuing) t.ok(reply.content.startsWith(kept), 'gone on from what was kept')
      t.ok(reply.content.length >= kept.length)
    })
  }
}

/** A reply's text in the store once there is some, while it still runs. */
async function checkpointed(call: ReturnType<typeof api>, chatId: string): Promise<string> {
  for (const until = Date.now() + 120_000; Date.now() < until; ) {
    const { body } = await call<{ messages: Message[] }>('GET', `/api/ai/chats/${chatId}`)
    const reply = body.messages[1]
    if (reply && reply.status !== 'queued' && reply.status !== 'streaming') break
    if (reply?.content) return reply.content
  }
  throw new Error('the reply ended before it was checkpointed')
}
