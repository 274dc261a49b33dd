import t from 'tap'
import type { Chat } from '../../schemas/chats.js'
import type { ApiError } from '../../schemas/common.js'
import type { Message } from '../../schemas/messages.js'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { type StandInModel, standInModel } from '../services/ollama-stand-in.js'

const model = (name: string, fields: Partial<StandInModel> = {}): StandInModel => ({
  ...standInModel,
  name,
  ...fields,
})

t.test('the default is the first model that can complete', async (t) => {
  const models = [
    model('embedder:latest', { capabilities: ['embedding'] }),
    model('talker:latest', { capabilities: ['completion'] }),
  ]
  const { newChat, send } = await startConversation(t, {}, { models })
  const { status, body } = await send(await newChat(), { content: 'len=5' })
  t.equal(status, 201)
  t.equal(body.reply.model, 'talker:latest')
})

t.test('a model that can only embed is refused before anything is stored', async (t) => {
  const models = [
    model('talker:latest', { capabilities: ['completion'] }),
    model('embedder:latest', { capabilities: ['embedding'] }),
  ]
  const { call, newChat, send, read } = await startConversation(t, {}, { models })
  const chatId = await newChat()
  const refused = { status: 400, body: { code: 'MODEL_CANNOT', message: /embedder:latest/ } }
  t.match(await send<ApiError>(chatId, { content: 'len=5', model: 'embedder' }), refused)
  t.match(await call('POST', '/api/ai/chats', { model: 'embedder' }), refused)
  t.match(await call('PATCH', `/api/ai/chats/${chatId}`, { model: 'embedder' }), refused)
  t.same((await read(chatId)).messages, [])
})

t.test('a chat’s think is left out where its model cannot think', async (t) => {
  const models = [
    model('plain:latest', { capabilities: ['completion'] }),
    model('thinker:latest', { capabilities: ['completion', 'thinking'] }),
  ]
  const { standIn, newChat, send } = await startConversation(t, {}, { models })
  for (const think of [true, false]) {
    const chatId = await newChat({ options: { think } })
    const plain = await send(chatId, { content: 'len=5' })
    t.match(plain, { status: 201, body: { reply: { status: 'complete' } } })
    const thinking = await send(chatId, { content: 'len=5', model: 'thinker' })
    t.equal(thinking.status, 201)
    const [first, second] = standIn.callsOf('/api/chat').splice(-2)
    t.notOk('think' in (first?.body ?? {}))
    t.equal(second?.body.think, think)
  }
})

t.test('a message’s own think is refused where its model cannot think', async (t) => {
  const models = [model('plain:latest', { capabilities: ['completion'] })]
  const { standIn, url, user, newChat, send, read } = await startConversation(t, {}, { models })
  const chatId = await newChat()
  const input = { content: 'len=5', options: { think: true } }
  t.match(await send<ApiError>(chatId, input), {
    status: 400,
    body: { code: 'MODEL_CANNOT', message: /plain:latest cannot think/ },
  })
  const events = {
    ...user.headers,
    accept: 'text/event-stream',
    'content-type': 'application/json',
  }
  const stream = await fetch(`${url}/api/ai/chats/${chatId}/messages`, {
    method: 'POST',
    headers: events,
    body: JSON.stringify(input),
  })
  t.match([stream.status, await stream.json()], [400, { code: 'MODEL_CANNOT' }])
  const socket = await connect(t, url, user.token)
  t.match(await ask(socket, 'chat-message', { chatId, ...input }), {
    ok: false,
    error: { code: 'MODEL_CANNOT', retryable: false },
  })
  t.same((await read(chatId)).messages, [])
  t.same(standIn.callsOf('/api/chat'), [])
  const unthinking = await send(chatId, { content: 'len=5', options: { think: false } })
  t.equal(unthinking.status, 201, 'not to think is no demand')
})

const wide = { MAX_NUM_CTX: '32768', MAX_NUM_PREDICT: '1000' }

t.test(
  'num_ctx and num_predict beyond a bound are refused by its name, wherever they are sent',
  async (t) => {
    const models = [
      model('small:latest', { contextLength: 8192 }),
      model('large:latest', { contextLength: 131_072 }),
    ]
    const { standIn, url, user, call, newChat, send, read } = await startConversation(t, wide, {
      models,
    })
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const cases = [
      ['large', { num_ctx: 1_048_577 }, /num_ctx` must be at most 32768, .*MAX_NUM_CTX/],
      ['large', { num_predict: 1001 }, /num_predict` must be at most 1000, .*MAX_NUM_PREDICT/],
      ['small', { num_ctx: 8193 }, /num_ctx` must be at most 8192, the context length of small:/],
      ['large', { num_ctx: 40_000, num_predict: 1001 }, /num_ctx` .*; `options.num_predict` must/],
    ] as const
    for (const [name, options, message] of cases) {
      const refused = { status: 400, body: { code: 'VALIDATION_FAILED', message } }
      t.match(await send<ApiError>(chatId, { content: 'len=5', model: name, options }), refused)
      t.match(await call('POST', '/api/ai/chats', { model: name, options }), refused)
      t.match(await call('PATCH', `/api/ai/chats/${chatId}`, { model: name, options }), refused)
      const input = { chatId, content: 'len=5', model: name, options }
      t.match(await ask(socket, 'chat-message', input), {
        ok: false,
        error: { code: 'VALIDATION_FAILED', message },
      })
    }
    t.match(await call('POST', '/api/ai/chats', { options: { num_ctx: 8193 } }), {
      body: { errors: [{ field: 'options.num_ctx', message: /^must be at most 8192/ }] },
    })
    const ofDefault = { options: { num_ctx: 8193 } }
    t.equal(
      (await call('POST', '/api/ai/chats', ofDefault)).status,
      400,
      'the default model’s bound',
    )
    t.equal((await call('PATCH', `/api/ai/chats/${chatId}`, ofDefault)).status, 400)
    const ofLarge = await newChat({ model: 'large' })
    t.equal((await call('PATCH', `/api/ai/chats/${ofLarge}`, ofDefault)).status, 200)
    t.same((await read(chatId)).messages, [])
    t.same(standIn.callsOf('/api/chat'), [])
  },
)

t.test('Ollama is never asked for more than the bounds', async (t) => {
  const models = [
    model('plain:latest'),
    model('short:latest', { parameters: 'num_predict 50\nstop  "x"' }),
    model('endless:latest', { parameters: 'num_predict    -1' }),
    model('zero:latest', { parameters: 'num_predict    0' }),
  ]
  const { standIn, url, user, newChat, send } = await startConversation(t, wide, { models })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const sentWith = async (name: string, options?: object) => {
    const chatId = await newChat({ model: name })
    const input = { content: 'len=5', ...(options && { options }) }
    const { status } = await send(chatId, input)
    t.equal(status, 201)
    const { reply } = await ask(socket, 'chat-message', { chatId, ...input })
    t.equal((await heard.message(reply.id)).status, 'complete')
    const sent = standIn.callsOf('/api/chat').splice(-2)
    const [overRest, overSocket] = sent.map(({ body }) => body.options?.num_predict)
    t.equal(overSocket, overRest)
    return overRest
  }
  t.equal(await sentWith('plain'), 1000, 'no bound becomes the operator’s')
  t.equal(await sentWith('plain', { num_predict: -1 }), 1000)
  t.equal(await sentWith('plain', { num_predict: -2 }), 1000)
  t.equal(await sentWith('plain', { num_predict: 7 }), 7)
  t.equal(await sentWith('short'), 50, 'the Modelfile’s own is kept')
  t.equal(await sentWith('endless'), 1000)
  t.equal(await sentWith('plain', { num_predict: 0 }), 1000, 'Ollama takes 0 for no limit')
  t.equal(await sentWith('zero'), 1000)
})

t.test('what a chat stored before a bound was lowered is cut to it', async (t) => {
  const models = [
    model('large:latest', { contextLength: 131_072 }),
    model('small:latest', { contextLength: 2048 }),
  ]
  const { standIn, app, user, newChat, send } = await startConversation(t, wide, { models })
  const chatId = await newChat({ options: { num_ctx: 4096 } })
  const stored = { num_ctx: 1_048_576, num_predict: 900_000 }
  await app.store.updateChat(user.user.id, chatId, { options: stored }, new Date())
  const sentWith = async (input: object) => {
    const { status } = await send(chatId, { content: 'len=5', ...input })
    t.equal(status, 201)
    return standIn.callsOf('/api/chat').at(-1)?.body.options
  }
  t.match(await sentWith({}), { num_ctx: 32768, num_predict: 1000 })
  t.match(await sentWith({ model: 'small' }), { num_ctx: 2048, num_predict: 1000 })
})

t.test(
  'a chat is neither created nor patched with a model that Ollama does not list',
  async (t) => {
    const { standIn, call, newChat, read } = await startConversation(t)
    const chatId = await newChat({ model: 'stand-in' })
    const unknown = { status: 404, body: { code: 'MODEL_NOT_FOUND' } }
    const asked = async (input: object) => [
      await call<Chat>('POST', '/api/ai/chats', input),
      await call<Chat>('PATCH', `/api/ai/chats/${chatId}`, input),
    ]
    for (const answer of await asked({ model: 'nope' })) t.match(answer, unknown)
    t.equal((await read(chatId)).model, 'stand-in')
    await standIn.stop()
    for (const answer of await asked({ model: 'nope' }))
      t.match(answer, unknown, 'by the last list')
    const [created, patched] = await asked({ model: 'stand-in:latest' })
    t.match([created?.status, patched?.status], [201, 200])
  },
)

t.test('a chat’s model is 503 while no list of models was ever had', async (t) => {
  const { standIn, app, user, call, newChat } = await startConversation(
    t,
    {},
    { routes: { '/api/tags': (request) => request.socket.destroy() } },
  )
  const chatId = await newChat()
  const away = { status: 503, body: { code: 'MODELS_UNKNOWN' } }
  t.match(await call('POST', '/api/ai/chats', { model: 'stand-in' }), away)
  t.match(await call('PATCH', `/api/ai/chats/${chatId}`, { model: 'stand-in' }), away)
  t.match(await call('PATCH', `/api/ai/chats/${chatId}`, { options: { num_ctx: 4096 } }), {
    status: 200,
  })
  t.ok(await app.store.findChat(user.user.id, chatId))
  t.same(standIn.callsOf('/api/chat'), [])
})

t.test('null resets a chat’s title, model, system and options', async (t) => {
  const { standIn, url, user, call, newChat, send } = await startConversation(t)
  const socket = await connect(t, url, user.token)
  const chatId = await newChat({
    title: 'T',
    model: 'stand-in',
    system: 'Be brief.',
    options: { seed: 7 },
  })
  const told = new Promise<{ chat: Chat }>((resolve) => socket.once('chat-updated', resolve))
  const nothing = { title: null, model: null, system: null, options: null }
  const { status, body } = await call<Chat>('PATCH', `/api/ai/chats/${chatId}`, nothing)
  t.equal(status, 200)
  t.match(body, { title: null, model: null })
  t.notOk('system' in body || 'options' in body)
  t.same((await told).chat, body)
  t.same((await call<Chat>('GET', `/api/ai/chats/${chatId}`)).body.system, undefined)
  await send(chatId, { content: 'len=5 the first words' })
  const request = standIn.callsOf('/api/chat').at(-1)?.body
  t.same(request?.messages, [{ role: 'user', content: 'len=5 the first words' }])
  t.notOk('seed' in (request?.options ?? {}))
  t.match((await call<Chat>('GET', `/api/ai/chats/${chatId}`)).body, {
    title: 'len=5 the first words',
  })
})

t.test('what is listed can be used, by any name that Ollama takes for it', async (t) => {
  const long = `registry.example.org:5000/${'n'.repeat(80)}/${'m'.repeat(80)}:${'t'.repeat(80)}`
  const models = [model('_draft:latest'), model(long), model('Mixed:Q4'), model('hf.co/a/b:latest')]
  const { standIn, url, user, call, newChat, send } = await startConversation(t, {}, { models })
  const listed = await call<{ models: { name: string }[] }>('GET', '/api/ai/models')
  t.same(
    listed.body.models.map(({ name }) => name),
    models.map(({ name }) => name),
  )
  const names = {
    _draft: '_draft:latest',
    '_draft:latest': '_draft:latest',
    '_DRAFT:Latest': '_draft:latest',
    'registry.ollama.ai/library/_draft': '_draft:latest',
    'library/_draft': '_draft:latest',
    [long]: long,
    'mixed:q4': 'Mixed:Q4',
    'HF.co/a/b': 'hf.co/a/b:latest',
  }
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  for (const [name, wanted] of Object.entries(names)) {
    const chatId = await newChat({ model: name })
    const { status, body } = await send(chatId, { content: 'len=5' })
    t.equal(status, 201, name)
    t.equal(body.reply.model, wanted, name)
    t.equal(standIn.callsOf('/api/chat').at(-1)?.body.model, wanted, name)
    const sent = await ask(socket, 'chat-message', { chatId, content: 'len=5', model: name })
    t.equal((await heard.message((sent.reply as Message).id)).status, 'complete', name)
  }
})

t.test('the Modelfile’s num_ctx is the window of a model that is not loaded yet', async (t) => {
  const parameters =
    'stop                           "<|im_end|>"\nnum_ctx                        32768'
  const models = [
    model('wide:latest', { parameters, contextLength: 131_072, loadedContextLength: undefined }),
  ]
  const { newChat, send } = await startConversation(t, {}, { models })
  const { status, body } = await send(await newChat(), {
    content: 'len=5 '.padEnd(60_000, 'word '),
  })
  t.equal(status, 201)
  t.match(body.reply.usage, { contextLength: 32768, messagesDropped: 0 })
})

t.test('a title is cut in UTF-16 units, and never inside a grapheme', async (t) => {
  const models = [model('wide:latest', { contextLength: 131_072, loadedContextLength: 131_072 })]
  const { call, newChat, send } = await startConversation(t, {}, { models })
  const family = '👩‍👩‍👧‍👦'
  for (const content of [
    '😀'.repeat(50_000),
    family.repeat(2_000),
    `x${'🇨🇭'.repeat(100)}`,
    'e\u0301'.repeat(1_000),
    `a${'\u0351'.repeat(5_000)} zalgo`,
    'short',
  ]) {
    const chatId = await newChat()
    t.equal((await send(chatId, { content })).status, 201)
    const { body } = await call<Chat>('GET', `/api/ai/chats/${chatId}`)
    const title = body.title ?? ''
    t.ok(title.length > 0 && title.length <= 60, `${title.length} units`)
    const whole = title.endsWith('…') ? title.slice(0, -1) : title
    t.ok(content.startsWith(whole))
    const graphemes = [...new Intl.Segmenter().segment(content.slice(0, 200))]
    t.ok(whole === content || graphemes.some(({ index }) => index === whole.length), title)
    t.equal((await call('PATCH', `/api/ai/chats/${chatId}`, { title })).status, 200)
  }
})
