import t from 'tap'
import type { ApiError } from '../../schemas/common.js'
import { createMemoryCache } from '../../src/cache/memory.js'
import { ContextWindows } from '../../src/prompt/context-windows.js'
import { startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { type Script, type StandInModel, standInModel } from '../services/ollama-stand-in.js'

/** What a message's template takes, in tokens. */
const perMessage = 4

/** A model that counts `perToken` characters as a token and answers with `length` letters. */
const counting = (perToken: (model: string) => number, length = 400): Script =>
  function* ({ model, messages }) {
    const characters = messages.reduce((sum, { content }) => sum + content.length, 0)
    yield { content: 'a'.repeat(length) }
    yield {
      done: {
        done_reason: 'stop',
        prompt_eval_count: Math.ceil(characters / perToken(model)) + perMessage * messages.length,
        eval_count: 100,
        eval_duration: 2_000_000_000,
        prompt_eval_duration: 30_000_000,
        load_duration: 5_000_000,
        total_duration: 2_100_000_000,
      },
    }
  }

const model = (name: string, fields: Partial<StandInModel> = {}): StandInModel => ({
  ...standInModel,
  name: `${name}:latest`,
  ...fields,
})

t.test('the newest whole exchanges that fit, the system prompt and the new message', async (t) => {
  const { standIn, newChat, send } = await startConversation(
    t,
    {},
    {
      models: [model('small', { loadedContextLength: 2048 })],
      script: counting(() => 1),
    },
  )
  const system = 'Be brief.'
  const chatId = await newChat({ system })
  const contentOf = (n: number) => `${n}`.padStart(3, '0').padEnd(200, ' word')
  let dropped = 0
  for (let n = 0; n < 8; n++) {
    const { body, status } = await send(chatId, { content: contentOf(n) })
    t.equal(status, 201)
    const sent = standIn.callsOf('/api/chat')[n]?.body.messages ?? []
    t.same(sent[0], { role: 'system', content: system })
    t.same(sent.at(-1), { role: 'user', content: contentOf(n) })
    const kept = (sent.length - 2) / 2
    const expected = Array.from({ length: kept }, (_, i) => [
      { role: 'user', content: contentOf(n - kept + i) },
      { role: 'assistant', content: 'a'.repeat(400) },
    ])
    t.same(sent.slice(1, -1), expected.flat(), `the newest ${kept} exchanges, whole and in order`)
    const { promptTokens = 0, ...usage } = body.reply.usage ?? {}
    t.match(usage, {
      contextLength: 2048,
      messagesSent: sent.length,
      messagesDropped: 2 * (n - kept),
    })
    // A quarter is kept for an answer whose length nobody bounded.
    t.ok(promptTokens <= 2048 - 512, `${promptTokens} tokens leave room for the answer`)
    dropped = 2 * (n - kept)
    if (dropped > 0) t.ok(promptTokens + 600 > 2048 - 512, 'and another exchange had no room')
  }
  t.ok(dropped > 0, 'some were dropped in the end')
})

t.test('tokens are counted as each model counts them', async (t) => {
  const { standIn, newChat, send } = await startConversation(
    t,
    {},
    {
      models: [
        model('wordy', { loadedContextLength: 2048 }),
        model('terse', { loadedContextLength: 2048 }),
      ],
      script: counting((name) => (name.startsWith('wordy') ? 1 : 4)),
    },
  )
  const dropped = async (name: string) => {
    const chatId = await newChat({ model: name })
    let last = 0
    for (let n = 0; n < 10; n++) {
      const { body } = await send(chatId, { content: 'x'.repeat(400) })
      last = body.reply.usage?.messagesDropped ?? -1
      t.ok((body.reply.usage?.promptTokens ?? 9999) < 2048, 'never over the window')
    }
    return last
  }
  const ofWordy = await dropped('wordy')
  const ofTerse = await dropped('terse')
  t.ok(ofWordy >= 2 * 8, `one character a token: ${ofWordy} of 18 dropped`)
  t.ok(ofTerse < 2 * 6, `four characters a token: ${ofTerse} of 18 dropped`)
  t.equal(standIn.callsOf('/api/chat').length, 20)
})

t.test('the window is the loaded one, or the one asked for, or the trained one', async (t) => {
  const { newChat, send } = await startConversation(
    t,
    {},
    {
      models: [
        model('loaded', { loadedContextLength: 3000, contextLength: 8192 }),
        model('away', { loadedContextLength: undefined, contextLength: 8192 }),
        model('tiny', { loadedContextLength: undefined, contextLength: 2048 }),
      ],
    },
  )
  const windowOf = async (name: string, options = {}) => {
    const chatId = await newChat({ model: name, options })
    const { body } = await send(chatId, { content: 'len=10' })
    return body.reply.usage?.contextLength
  }
  t.equal(await windowOf('loaded'), 3000)
  t.equal(await windowOf('loaded', { num_ctx: 1000 }), 1000)
  t.equal(await windowOf('away'), 4096, 'what Ollama loads by itself')
  t.equal(await windowOf('tiny'), 2048)
})

t.test('an answer as long as was asked for has its room', async (t) => {
  const { newChat, send } = await startConversation(
    t,
    {},
    { models: [model('small', { loadedContextLength: 2048 })], script: counting(() => 1, 100) },
  )
  const promptTokens = async (options: object) => {
    const chatId = await newChat({ options })
    let most = 0
    for (let n = 0; n < 8; n++) {
      const { body } = await send(chatId, { content: 'x'.repeat(250) })
      most = Math.max(most, body.reply.usage?.promptTokens ?? 9999)
    }
    return most
  }
  const long = await promptTokens({ num_predict: 1200 })
  t.ok(long <= 848, `${long} tokens when 1200 are kept`)
  const short = await promptTokens({ num_predict: 100 })
  t.ok(short > 1400 && short <= 1948, `${short} tokens when 100 are kept`)
})

t.test('usage tells what the reply took', async (t) => {
  const { newChat, send } = await startConversation(t, {}, { script: counting(() => 1) })
  const chatId = await newChat({ system: 'S' })
  const { body } = await send(chatId, { content: 'x'.repeat(50) })
  const { firstTokenMs, ...usage } = body.reply.usage ?? {}
  t.type(firstTokenMs, 'number')
  t.same(usage, {
    contextLength: 4096,
    messagesSent: 2,
    messagesDropped: 0,
    promptTokens: 51 + 2 * perMessage,
    replyTokens: 100,
    totalMs: 2100,
    loadMs: 5,
    promptMs: 30,
    replyMs: 2000,
    tokensPerSecond: 50,
  })
})

t.test('a message that cannot fit alone is refused by name, before Ollama is called', async (t) => {
  const { standIn, url, user, newChat, send, read } = await startConversation(
    t,
    {},
    { models: [model('small', { loadedContextLength: 2048 })], script: counting(() => 1) },
  )
  const chatId = await newChat({ system: 's'.repeat(200) })
  const content = 'x'.repeat(1400)
  const first = await send(chatId, { content })
  t.equal(first.status, 201, 'nothing is known of the model yet')
  const calls = standIn.callsOf('/api/chat').length
  const refused = await send<ApiError>(chatId, { content })
  t.match(refused, { status: 400, body: { code: 'MESSAGE_TOO_LONG', message: /small:latest/ } })
  const socket = await connect(t, url, user.token)
  t.match(await ask(socket, 'chat-message', { chatId, content }), {
    ok: false,
    error: { code: 'MESSAGE_TOO_LONG', retryable: false },
  })
  t.equal(standIn.callsOf('/api/chat').length, calls)
  t.equal((await read(chatId)).messages.length, 2, 'nothing was stored')
  const raised = await send(chatId, { content, options: { num_ctx: 4096 } })
  t.equal(raised.status, 201, 'a larger window has room for it')
})

/** An Ollama that loads its model with what a request asks for, else with its own 2048. */
const loading =
  (loaded: StandInModel): Script =>
  (body, ...rest) => {
    loaded.loadedContextLength = Number(body.options?.num_ctx ?? 2048)
    return counting(() => 4, 100)(body, ...rest)
  }

t.test('a model that was not loaded has the window that it was then loaded with', async (t) => {
  const models = [model('own', { loadedContextLength: undefined })]
  const { newChat, send } = await startConversation(
    t,
    {},
    { models, script: loading(models[0] ?? standInModel) },
  )
  const chatId = await newChat()
  for (const which of ['first', 'second']) {
    const { body } = await send(chatId, { content: 'x'.repeat(500) })
    t.equal(body.reply.usage?.contextLength, 2048, which)
  }
})

t.test('a window that one request asked for is no other’s', async (t) => {
  const windows = new ContextWindows(createMemoryCache())
  const facts = { name: 'own', digest: 'd', trainedContextLength: 8192, numCtx: undefined }
  const windowWhenLoaded = (contextLength: number | undefined, options = {}) =>
    windows.of({ ...facts, contextLength }, options).contextLength
  t.equal(windowWhenLoaded(2048), 2048)
  t.equal(windowWhenLoaded(2048, { num_ctx: 256 }), 256)
  t.equal(windowWhenLoaded(256), 2048, 'Ollama loads the model again for who asks for none')
  t.equal(windowWhenLoaded(undefined), 2048, 'and as it did before')
  t.equal(windowWhenLoaded(3000), 3000, 'its own window changes with its settings')
})

t.test('nothing is learnt from a count that leaves out what Ollama had cached', async (t) => {
  const script: Script = function* ({ messages }) {
    yield { content: 'a'.repeat(400) }
    // Three characters make a token; only the last message was not cached.
    const tokens = Math.ceil((messages.at(-1)?.content.length ?? 0) / 3)
    yield { done: { done_reason: 'stop', prompt_eval_count: tokens } }
  }
  const models = [model('small', { loadedContextLength: 2048 })]
  const { standIn, newChat, send } = await startConversation(t, {}, { models, script })
  const chatId = await newChat()
  for (let n = 0; n < 20; n += 1) {
    const { status } = await send(chatId, { content: 'x'.repeat(500) })
    t.equal(status, 201)
    const sent = standIn.callsOf('/api/chat').at(-1)?.body.messages ?? []
    const tokens = sent.reduce((sum, { content }) => sum + content.length / 3, 0)
    t.ok(tokens < 2048, `${tokens} tokens fit the window`)
  }
})

t.test(
  'what Ollama cut of a prompt is told: one that fills the window lost its history',
  async (t) => {
    const script: Script = () => [
      { content: 'a' },
      { done: { done_reason: 'stop', prompt_eval_count: 2048 } },
    ]
    const models = [model('small', { loadedContextLength: 2048 })]
    const { newChat, send } = await startConversation(t, {}, { models, script })
    const chatId = await newChat({ system: 'S' })
    await send(chatId, { content: 'one' })
    const { body } = await send(chatId, { content: 'two' })
    t.match(body.reply.usage, { messagesSent: 2, messagesDropped: 2 })
  },
)

t.test(
  'what Ollama cut of a prompt is told: the model was loaded with a smaller window',
  async (t) => {
    const late = model('late', { loadedContextLength: undefined })
    const script: Script = (body, ...rest) => {
      if (body.model === late.name) late.loadedContextLength = 512
      return counting(() => 3)(body, ...rest)
    }
    const models = [model('wide', { loadedContextLength: 8192 }), late]
    const { newChat, send } = await startConversation(t, {}, { models, script })
    const chatId = await newChat()
    for (let n = 0; n < 3; n += 1) await send(chatId, { content: 'x'.repeat(600) })
    const { body } = await send(chatId, { content: 'x'.repeat(100), model: 'late' })
    const { contextLength, messagesSent = 0, messagesDropped = 0 } = body.reply.usage ?? {}
    t.equal(contextLength, 512)
    t.equal(messagesSent + messagesDropped, 7)
    t.ok(messagesDropped >= 3, `${messagesDropped} dropped`)
  },
)

t.test(
  'the window and the ratio of tokens that were learnt outlive their server',
  { skip: process.env.REDIS_URL ? false : 'REDIS_URL is not set' },
  async (t) => {
    const DATA_DIR = t.testdir()
    const own = model('own', { loadedContextLength: 2048 })
    const first = await startConversation(
      t,
      { DATA_DIR },
      { models: [own], script: counting(() => 1) },
    )
    const content = 'x'.repeat(1400)
    t.equal((await first.send(await first.newChat(), { content })).status, 201)
    await first.close()
    own.loadedContextLength = undefined
    const second = await startApp(t, { DATA_DIR, OLLAMA_API_URL: first.standIn.url })
    const { newChat, send } = await converse(second.url)
    const chatId = await newChat({ system: 's'.repeat(200) })
    // The first message has what was learnt read; it says too little to learn from.
    const { body } = await send(chatId, { content: 'len=5' })
    t.equal(body.reply.usage?.contextLength, 2048)
    t.match(await send(chatId, { content }), { status: 400, body: { code: 'MESSAGE_TOO_LONG' } })
  },
)
