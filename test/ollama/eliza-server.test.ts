import { createHash } from 'node:crypto'
import t, { type Test } from 'tap'
import type { Chat } from '../../schemas/chats.js'
import { createMemoryCache } from '../../src/cache/memory.js'
import { createModelCatalogue } from '../../src/ollama/catalogue.js'
import { type ChatRequest, createOllamaClient } from '../../src/ollama/client.js'
import { startElizaServer } from '../../src/ollama/eliza/eliza-server.js'
import { api, embedded, register, startApp } from '../services/app.js'
import { ask, connect, hear } from '../services/client.js'

/** A wait of this length that is not ended keeps this process from ending. */
const anHour = 3_600_000
/** What it says to `I am sad today` first. */
const sorry = 'I am sorry to hear that you are sad.'

async function start(t: Test, wordMs = 0) {
  const server = await startElizaServer(wordMs)
  const client = createOllamaClient({
    url: server.url,
    connectTimeoutMs: 2_000,
    firstTokenTimeoutMs: 5_000,
    idleTimeoutMs: 5_000,
    loadTimeoutMs: 5_000,
  })
  t.teardown(async () => {
    await client.close()
    await server.close()
  })
  const post = async (path: string, body: unknown) => {
    const response = await fetch(server.url + path, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
    return { status: response.status, body: await response.json() }
  }
  const say = async (messages: ChatRequest['messages'], options = {}) => {
    const deltas: string[] = []
    const result = await client.chat(
      { model: 'eliza', messages, options },
      (content) => deltas.push(content),
      new AbortController().signal,
    )
    return { text: deltas.join(''), deltas, result }
  }
  return { server, client, post, say }
}

const user = (content: string) => ({ role: 'user' as const, content })
const assistant = (content: string) => ({ role: 'assistant' as const, content })

t.test('it is an Ollama with one model', async (t) => {
  const { server, client } = await start(t)
  t.equal(await (await fetch(server.url)).text(), 'Ollama is running')
  t.match(await client.version(), /^\d+\.\d+\.\d+$/)
  const [model, ...others] = await client.list()
  t.strictSame(others, [])
  t.match(model, { name: 'eliza', digest: /^[0-9a-f]{64}$/, details: { family: 'eliza' } })
  t.ok(model && model.size > 0 && model.digest !== createHash('sha256').digest('hex'))
  const found = await createModelCatalogue(client, {
    cache: createMemoryCache(),
    url: server.url,
    defaultModel: undefined,
  }).find()
  t.match(found, { name: 'eliza', continues: true, capabilities: ['completion'] })
  t.equal(found.contextLength, found.trainedContextLength)
  t.equal((await fetch(`${server.url}/api/pull`)).status, 404)
  t.equal((await fetch(`${server.url}/api/chat`)).status, 405)
})

t.test('the answer is ELIZA’s, streamed word by word, and counted', async (t) => {
  const { say } = await start(t, 1)
  const { text, deltas, result } = await say([user('I am sad today')])
  t.ok(text.startsWith(`${sorry} Do you think coming here will help you not to be sad ?`), text)
  const words = text.split(' ')
  t.ok(words.length >= 40, 'it is long enough to be stopped or rejoined')
  t.ok(deltas.length > 1)
  t.match(result, { doneReason: 'stop', promptTokens: 4, replyTokens: words.length })
  t.ok(Number(result.totalMs) >= Number(result.replyMs))
})

t.test('the same conversation has the same answer, another turn another one', async (t) => {
  const { say } = await start(t)
  const first = await say([user('hello')])
  const replyResponses = [user('hello'), assistant(first.text), user('hello')]
  const second = await say(replyResponses)
  t.not(second.text, first.text)
  t.equal((await say(replyResponses)).text, second.text)
  t.equal((await say([user('bye')])).text, (await say([user('bye')])).text)
  t.equal((await say([{ role: 'system', content: 'Be kind.' }])).text.split(' ')[0], 'How')
})

t.test('a begun answer is gone on from wherever it ends', async (t) => {
  const { say } = await start(t)
  const asked = user('I am sad today')
  const whole = (await say([asked])).text
  for (const length of [1, 7, whole.length - 1, whole.length]) {
    const begun = whole.slice(0, length)
    t.equal(begun + (await say([asked, assistant(begun)])).text, whole, `from ${length}`)
  }
  t.equal((await say([asked, assistant('Well,')])).text, ` ${whole}`)
})

t.test('num_predict ends an answer early', async (t) => {
  const { say } = await start(t)
  const { text, result } = await say([user('I am sad today')], { num_predict: 3 })
  t.equal(text, 'I am sorry')
  t.match(result, { doneReason: 'length', replyTokens: 3 })
})

t.test('stream: false answers at once, and no messages load the model', async (t) => {
  const { post } = await start(t)
  const whole = await post('/api/chat', {
    model: 'eliza',
    messages: [user('I am sad today')],
    stream: false,
  })
  t.match(whole, {
    status: 200,
    body: {
      done: true,
      done_reason: 'stop',
      message: { role: 'assistant', content: new RegExp(`^${sorry}`) },
    },
  })
  t.match(await post('/api/chat', { model: 'eliza' }), {
    status: 200,
    body: { done: true, done_reason: 'load', message: { content: '' } },
  })
})

const refused: [name: string, body: unknown, status: number, error: RegExp][] = [
  [
    'an unknown model',
    { model: 'nope', messages: [] },
    404,
    /^model "nope" not found, try pulling it first$/,
  ],
  ['no model', { messages: [] }, 400, /model is required/],
  [
    'thinking',
    { model: 'eliza', messages: [], think: true },
    400,
    /^"eliza" does not support thinking$/,
  ],
  ['tools', { model: 'eliza', messages: [], tools: [{}] }, 400, /does not support tools/],
  ['bad JSON', '{"model":', 400, /JSON/],
  ['no body', '', 400, /missing request body/],
  ['a list', [], 400, /object/],
  ['messages of another type', { model: 'eliza', messages: 'hello' }, 400, /messages/],
  ['an unknown role', { model: 'eliza', messages: [{ role: 'me', content: '' }] }, 400, /role/],
  ['content of another type', { model: 'eliza', messages: [user(7 as never)] }, 400, /content/],
  ['17 MiB', `"${'x'.repeat(17 * 1024 * 1024)}"`, 413, /too large/],
]
for (const [name, body, status, error] of refused) {
  t.test(`${name} is refused as Ollama does`, async (t) => {
    const { post } = await start(t)
    t.match(await post('/api/chat', body), { status, body: { error } })
  })
}

t.test('its answer stops when the client goes', async (t) => {
  const { server, client } = await start(t, anHour)
  const stop = new AbortController()
  const outcome = client.chat(
    { model: 'eliza', messages: [user('I am sad today')] },
    () => stop.abort(new Error('stopped')),
    stop.signal,
  )
  await t.rejects(outcome, { message: 'stopped' })
  t.equal((await fetch(server.url)).status, 200)
})

t.test('messages that take the most work are answered', async (t) => {
  const { say } = await start(t)
  // Without ELIZA's limits one of them takes minutes.
  const worst = ['i '.repeat(50_000), 'i you '.repeat(16_000), ' '.repeat(100_000), 'x'.repeat(1e5)]
  for (const content of worst) {
    await say(Array.from({ length: 20 }, () => user(content)))
  }
})

t.test('close ends what it was answering', async (t) => {
  const server = await startElizaServer(anHour)
  const response = await fetch(`${server.url}/api/chat`, {
    method: 'POST',
    body: JSON.stringify({ model: 'eliza', messages: [user('I am sad today')] }),
  })
  const [rest] = await Promise.all([
    response.text().then(
      () => 'ended',
      () => 'cut',
    ),
    server.close(),
  ])
  t.equal(rest, 'cut')
  await t.rejects(fetch(server.url))
})

t.test('ELIZA_PACE_MS is slow enough for a reply to be stopped while she speaks', async (t) => {
  const { url } = await startApp(t, { ...embedded, ELIZA_PACE_MS: '1000' })
  const user = await register(url)
  const { body: chat } = await api(url, user.token)<Chat>('POST', '/api/ai/chats', {})
  const socket = await connect(t, url, user.token)
  const spoke = hear(socket, 'message-chunk')
  const { reply } = await ask(socket, 'chat-message', { chatId: chat.id, content: 'I am sad' })
  await spoke
  const stopped = await ask(socket, 'stop-message', { chatId: chat.id, messageId: reply.id })
  t.match(stopped, { message: { status: 'stopped', content: /^I\b/ } })
})
