import { join } from 'node:path'
import Libsql from 'libsql'
import t, { type Test } from 'tap'
import type { Chat } from '../../schemas/chats.js'
import type { Message, Turn } from '../../schemas/messages.js'
import type { ModelList } from '../../schemas/models.js'
import { api, register, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { eventually, patienceMs } from '../services/eventually.js'
import { startOllama } from '../services/ollama-process.js'
import { startServer } from '../services/server-process.js'
import { compareStandIn } from './compare-stand-in.js'

const { TEST_OLLAMA_URL, TEST_OLLAMA_BINARY, TEST_OLLAMA_MODELS } = process.env
const continuing = 'smollm2:135m'
const guessed = 'smollm2-guessed:135m'
/** Few tokens, since there are but a few a second here; the same every time. */
const options = { num_predict: 20, temperature: 0, seed: 7 }
const patience = {
  OLLAMA_FIRST_TOKEN_TIMEOUT_MS: String(patienceMs),
  OLLAMA_IDLE_TIMEOUT_MS: String(patienceMs),
}
const later = { prefer: 'respond-async' }

t.setTimeout(1_200_000)
if (TEST_OLLAMA_URL) {
  const url = TEST_OLLAMA_URL
  // One after the other: a model that is asked for with another context is loaded anew.
  t.test('the stand-in answers as Ollama does', (t) => compareStandIn(t, url))
  t.test('a conversation with the real Ollama', (t) => conversation(t, url))
  for (const model of [continuing, guessed]) {
    t.test(`a takeover of ${model} ends with a whole text`, (t) => takeover(t, url, model))
  }
} else t.test('the real Ollama', { skip: 'TEST_OLLAMA_URL is not set' }, async () => {})

if (TEST_OLLAMA_BINARY && TEST_OLLAMA_MODELS) {
  const [binary, models] = [TEST_OLLAMA_BINARY, TEST_OLLAMA_MODELS]
  t.test('Ollama killed in the middle of a reply: one error, and it works once it is back', (t) =>
    killed(t, binary, models),
  )
} else t.test('Ollama killed', { skip: 'TEST_OLLAMA_BINARY is not set' }, async () => {})

/** A user of the app over an Ollama. */
async function start(t: Test, ollamaUrl: string) {
  const server = await startApp(t, { OLLAMA_API_URL: ollamaUrl, ...patience })
  return userOf(t, server.url)
}

async function userOf(t: Test, url: string) {
  const { token } = await register(url)
  const call = api(url, token)
  const socket = await connect(t, url, token)
  const heard = record(socket)
  const post = (chatId: string, body: object) =>
    call<Turn & { code: string }>('POST', `/api/ai/chats/${chatId}/messages`, body, later)
  return {
    token,
    call,
    heard,
    post,
    async newChat(more: object = {}): Promise<string> {
      const chat = { model: continuing, options, ...more }
      const { body } = await call<Chat>('POST', '/api/ai/chats', chat)
      await ask(socket, 'join-chat', { chatId: body.id })
      return body.id
    },
    ended: (id: string) => heard.until(() => heard.messages.find((message) => message.id === id)),
    /** Sends a message; answers with its reply's id once there is text of it. */
    async begin(chatId: string, content: string): Promise<string> {
      const { body } = await post(chatId, { content })
      const { id } = body.reply
      await heard.until(() => heard.chunks.find(({ messageId }) => messageId === id))
      return id
    },
    /** Sends a message; answers with its reply when it has ended. */
    async say(chatId: string, content: string, more: object = {}): Promise<Message> {
      const { status, body } = await post(chatId, { content, ...more })
      if (status !== 202) throw new Error(`${status}: ${JSON.stringify(body)}`)
      return this.ended(body.reply.id)
    },
  }
}

async function conversation(t: Test, ollamaUrl: string) {
  const user = await start(t, ollamaUrl)
  const { call, heard, newChat, post } = user

  t.test('lists its models with what they can do', async (t) => {
    const { body } = await call<ModelList>('GET', '/api/ai/models')
    t.same(body.models.map(({ name }) => name).sort(), [guessed, continuing].sort())
    t.match(body.models[0], { capabilities: ['completion'], details: { family: 'llama' } })
  })

  t.test('streams a reply and tells what it took, and the next knows of it', async (t) => {
    const chatId = await newChat()
    const reply = await user.say(chatId, 'What is the capital of France?')
    t.match(reply, { status: 'complete', content: /Paris/ })
    t.equal(heard.text(reply.id), reply.content)
    t.ok(heard.chunks.filter(({ messageId }) => messageId === reply.id).length > 2, 'in parts')
    const { usage } = reply
    t.ok(usage?.promptTokens && usage.replyTokens && usage.tokensPerSecond && usage.totalMs)
    t.equal(usage?.contextLength, 4096, 'the window that is loaded, not the one it was trained for')
    t.match(usage, { messagesSent: 1, messagesDropped: 0 })
    const next = await user.say(chatId, 'And of Italy?')
    t.match(next, { status: 'complete', usage: { messagesSent: 3 } })
  })

  t.test('a stop frees the runner at once', async (t) => {
    const chatId = await newChat({ options: { ...options, num_predict: 4000 } })
    const id = await user.begin(chatId, 'Tell me a very long story.')
    const stopped = await call<Message>('POST', `/api/ai/chats/${chatId}/messages/${id}/stop`)
    t.match(stopped, { status: 200, body: { status: 'stopped' } })
    const stoppedAt = performance.now()
    const { status, usage } = await user.say(await newChat(), 'Hello')
    t.equal(status, 'complete')
    const storyMs = (4000 / (usage?.tokensPerSecond ?? 0)) * 1000
    t.ok(performance.now() - stoppedAt < storyMs / 2, 'it did not wait for the story')
  })

  t.test('two chats at once each get their own', async (t) => {
    const questions = ['What is the capital of France?', 'Say hello to Alice.']
    const replies = await Promise.all(
      questions.map(async (question) => user.say(await newChat(), question)),
    )
    // Another length, lest it be answered from what was kept of the same request.
    const other = { options: { ...options, num_predict: 19 } }
    for (const [n, question] of questions.entries()) {
      const alone = await user.say(await newChat(), question, other)
      t.equal(replies[n]?.content.slice(0, 40), alone.content.slice(0, 40))
    }
  })

  t.test('a model that is not there, and thinking that a model cannot', async (t) => {
    const chatId = await newChat()
    t.match(await post(chatId, { content: 'Hello', model: 'nope' }), {
      status: 404,
      body: { code: 'MODEL_NOT_FOUND' },
    })
    t.match(await post(chatId, { content: 'Hello', options: { think: true } }), {
      status: 400,
      body: { code: 'MODEL_CANNOT' },
    })
  })

  t.test('a chat longer than the window loses its oldest messages, and says so', async (t) => {
    const chatId = await newChat({ options: { ...options, num_ctx: 256, num_predict: 8 } })
    const long = 'The quick brown fox jumps over the lazy dog. '.repeat(6)
    let usage: Message['usage']
    for (let n = 0; n < 3; n += 1) {
      const reply = await user.say(chatId, `${n}: ${long}`)
      t.equal(reply.status, 'complete')
      usage = reply.usage
    }
    t.ok((usage?.messagesDropped ?? 0) > 0, `${usage?.messagesDropped} dropped`)
    t.ok((usage?.promptTokens ?? 257) + 8 <= 256, `${usage?.promptTokens} tokens sent`)
    t.match(await post(chatId, { content: long.repeat(20) }), {
      status: 400,
      body: { code: 'MESSAGE_TOO_LONG' },
    })
  })
}

async function killed(t: Test, binary: string, models: string) {
  const ollama = await startOllama(t, binary, models)
  const user = await start(t, ollama.url)
  const chatId = await user.newChat({ options: { ...options, num_predict: 4000 } })
  const id = await user.begin(chatId, 'Tell me a very long story.')
  await ollama.kill()
  const failed = await user.ended(id)
  t.match(failed, { status: 'error', error: { code: /^MODEL_(CUT|UNREACHABLE)$/ } })
  t.ok(failed.content !== '' && failed.content.startsWith(user.heard.text(id)), 'with its text')
  t.match(await user.say(chatId, 'Hello'), { error: { code: 'MODEL_UNREACHABLE' } })
  await ollama.restart()
  t.match(await user.say(await user.newChat(), 'Hello'), { status: 'complete' })
}

async function takeover(t: Test, ollamaUrl: string, model: string) {
  const DATA_DIR = t.testdir()
  const settings = { DATA_DIR, OLLAMA_API_URL: ollamaUrl, ...patience }
  const first = await startServer(settings)
  t.teardown(() => first.end('SIGKILL'))
  const owner = await userOf(t, first.url)
  const chatId = await owner.newChat({ model, options: { ...options, num_predict: 40 } })
  const id = await owner.begin(chatId, 'Count to twenty.')
  const database = new Libsql(join(DATA_DIR, 'chat.db'), { readonly: true })
  t.teardown(() => database.close())
  const row = database.prepare(
    `SELECT content || coalesce(
       (SELECT group_concat(content, '') FROM pieces WHERE message_id = messages.id), '') AS content
     FROM messages WHERE id = ?`,
  )
  const kept = () => (row.get(id) as { content: string }).content
  await eventually('some text is stored', () => kept() !== '')
  await first.end('SIGKILL')
  const before = kept()

  const second = await startServer(settings)
  t.teardown(() => second.end('SIGKILL'))
  const socket = await connect(t, second.url, owner.token)
  const hears = record(socket)
  const { active } = await ask(socket, 'join-chat', { chatId, messageId: id })
  t.match(active, [{ epoch: 2, messageId: id }])
  const reply = await hears.until(() => hears.messages.find((message) => message.id === id))
  t.equal(reply.status, 'complete')
  const takenOver = second.lines.find((line) => line.includes('reply taken over'))
  const { offset } = JSON.parse(takenOver ?? '{}') as { offset?: number }
  t.equal(offset, model === continuing ? before.length : 0)
  // The same model, options and message: the same text, whichever of the two began it.
  t.ok(reply.content.startsWith(before), `${reply.content} begins with ${before}`)
  t.ok(reply.content.length > before.length)
}
