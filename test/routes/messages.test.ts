import { request as httpRequest } from 'node:http'
import t from 'tap'
import type { Chat, ChatWithMessages } from '../../schemas/chats.js'
import type { ApiError } from '../../schemas/common.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { readEvents, type StreamEvent } from '../../web/client/events.js'
import { api, register, startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { standInReply, startStandIn } from '../services/ollama-stand-in.js'

t.test('messages', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { url } = await startApp(t, {
    OLLAMA_API_URL: standIn.url,
    OLLAMA_IDLE_TIMEOUT_MS: '300',
    OLLAMA_FIRST_TOKEN_TIMEOUT_MS: '600',
  })
  const user = await register(url)
  const call = api(url, user.token)
  const newChat = async () => (await call<Chat>('POST', '/api/ai/chats', {})).body.id
  const messages = (chatId: string) => `/api/ai/chats/${chatId}/messages`
  const sse = (path: string, init: RequestInit = {}) =>
    fetch(url + path, {
      ...init,
      headers: {
        ...user.headers,
        accept: 'text/event-stream',
        'content-type': 'application/json',
        ...init.headers,
      },
    })
  const eventsOf = async (response: Response) => {
    if (!response.body) throw new Error('no body')
    const events: StreamEvent[] = []
    for await (const event of readEvents(response.body)) events.push(event)
    return events
  }

  t.test('by default the answer comes when the reply is done', async (t) => {
    const chatId = await newChat()
    const content = 'len=300 think=20'
    const { status, body } = await call<Turn>('POST', messages(chatId), { content })
    t.equal(status, 201)
    t.match(body.message, { seq: 1, role: 'user', content, status: 'complete' })
    t.match(body.reply, {
      seq: 2,
      role: 'assistant',
      content: standInReply(content),
      status: 'complete',
      model: 'stand-in:latest',
      usage: { contextLength: 4096, messagesSent: 1, messagesDropped: 0, replyTokens: Number },
      completedAt: String,
    })
  })

  t.test('Prefer: respond-async answers at once, and says where to hear the rest', async (t) => {
    const chatId = await newChat()
    const content = 'len=200 rate=400'
    const sent = await call<Turn>(
      'POST',
      messages(chatId),
      { content },
      { prefer: 'respond-async, wait=10' },
    )
    t.equal(sent.status, 202)
    t.match(sent.body.reply, { status: 'queued', content: '' })
    const location = sent.headers.get('location') ?? ''
    const events = await eventsOf(await sse(location))
    t.equal(events[0]?.event, 'message-start')
    t.match(JSON.parse(events.at(-1)?.data ?? ''), { id: sent.body.reply.id, status: 'complete' })
  })

  t.test('as server-sent events: the message, the start, the frames, the reply', async (t) => {
    const chatId = await newChat()
    const content = 'len=400 rate=800 think=30'
    const response = await sse(messages(chatId), {
      method: 'POST',
      body: JSON.stringify({ content }),
    })
    t.equal(response.status, 200)
    t.match(response.headers.get('content-type'), /^text\/event-stream/)
    const events = await eventsOf(response)
    const data = events.map((event) => JSON.parse(event.data))
    t.match(data[0], { role: 'user', content })
    t.match(data.at(-1), { role: 'assistant', status: 'complete', content: standInReply(content) })
    const frames = data.filter((_, n) => events[n]?.event === 'message-chunk')
    const text = frames
      .filter((frame) => !frame.thinking)
      .map((frame) => frame.delta)
      .join('')
    t.equal(text, standInReply(content))
    const { id } = data.at(-1)
    for (const event of events) t.match(event.id, new RegExp(`^${id}:1:\\d+$`))
    t.equal(events.at(-1)?.id, `${id}:1:${text.length}`)
  })

  t.test('JSON wins wherever it is accepted', async (t) => {
    const chatId = await newChat()
    const accept = 'application/json, text/event-stream'
    const answer = await call<Turn>('POST', messages(chatId), { content: 'len=5' }, { accept })
    t.equal(answer.status, 201)
  })

  t.test(
    'a stream is rejoined from any offset, and one that has ended gives its rest',
    async (t) => {
      const chatId = await newChat()
      const content = 'len=800 rate=800'
      const whole = standInReply(content)
      const { body } = await call<Turn>(
        'POST',
        messages(chatId),
        { content },
        { prefer: 'respond-async' },
      )
      const path = `${messages(chatId)}/${body.reply.id}/stream`
      const insidePair = whole.search(/[\uD800-\uDBFF]/) + 1
      t.ok(insidePair > 0)
      for (const offset of [0, 1, insidePair, 333, 799]) {
        const byId = { 'last-event-id': `${body.reply.id}:1:${offset}` }
        const events = await eventsOf(
          offset % 2
            ? await sse(path, { headers: byId })
            : await sse(`${path}?epoch=1&offset=${offset}`),
        )
        const frames = events
          .filter((event) => event.event === 'message-chunk')
          .map((event) => JSON.parse(event.data))
        const from = frames[0]?.offset ?? whole.length
        t.equal(
          whole.slice(0, from) + frames.map((frame) => frame.delta).join(''),
          whole,
          `from ${offset}`,
        )
        t.ok(from <= offset && from >= offset - 1, `asked from ${offset}, answered from ${from}`)
        t.equal(events.at(-1)?.event, 'message')
      }
      const socket = await connect(t, url, user.token)
      const join = { chatId, messageId: body.reply.id, epoch: 1, offset: insidePair }
      const { active } = await ask(socket, 'join-chat', join)
      t.match(active, [{ offset: insidePair - 1, text: whole.slice(insidePair - 1) }])
    },
  )

  t.test('a client that goes away stops nothing', async (t) => {
    const chatId = await newChat()
    const content = 'len=300 rate=400'
    const gone = new AbortController()
    const response = await sse(messages(chatId), {
      method: 'POST',
      body: JSON.stringify({ content }),
      signal: gone.signal,
    })
    await response.body?.getReader().read()
    gone.abort()
    const { body: chat } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    const reply = chat.messages[1]
    const events = await eventsOf(await sse(`${messages(chatId)}/${reply?.id}/stream`))
    t.match(JSON.parse(events.at(-1)?.data ?? ''), {
      status: 'complete',
      content: standInReply(content),
    })
  })

  t.test('a retry under the same key is the same turn, whichever way it is heard', async (t) => {
    const chatId = await newChat()
    const content = 'len=120 rate=600'
    const before = standIn.callsOf('/api/chat').length
    const send = (headers: Record<string, string>) =>
      call<Turn>('POST', messages(chatId), { content }, { 'idempotency-key': 'k1', ...headers })
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => send(n % 2 ? { prefer: 'respond-async' } : {})),
    )
    t.equal(new Set(answers.map(({ body }) => `${body.message.id} ${body.reply.id}`)).size, 1)
    t.ok(answers.every(({ status }, n) => status === (n % 2 ? 202 : 201)))
    const { body: chat } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    t.equal(chat.messages.length, 2)
    t.equal(standIn.callsOf('/api/chat').length - before, 1, 'one call to Ollama')
    const other = await call<ApiError>(
      'POST',
      messages(chatId),
      { content: 'other' },
      { 'idempotency-key': 'k1' },
    )
    t.match(other, { status: 409, body: { code: 'IDEMPOTENCY_KEY_REUSED' } })
    const elsewhere = await call<ApiError>(
      'POST',
      messages(await newChat()),
      { content },
      { 'idempotency-key': 'k1' },
    )
    t.equal(elsewhere.status, 409, 'another chat is another body')
  })

  t.test(
    'two at once in a chat: both stored, answered in order, the first in the second’s context',
    async (t) => {
      const chatId = await newChat()
      const before = standIn.callsOf('/api/chat').length
      const [first, second] = await Promise.all([
        call<Turn>('POST', messages(chatId), { content: 'len=90 rate=900' }),
        call<Turn>('POST', messages(chatId), { content: 'len=60 rate=900' }),
      ])
      const seqs = [first, second].map(({ body }) => [body.message.seq, body.reply.seq]).sort()
      t.same(seqs, [
        [1, 2],
        [3, 4],
      ])
      const calls = standIn.callsOf('/api/chat').slice(before)
      t.same(
        calls.map(({ body }) => body.messages.length),
        [1, 3],
      )
    },
  )

  t.test('what Ollama does wrong ends in one typed error; the message stays', async (t) => {
    const faults: [string, number, string][] = [
      ['notFound', 502, 'MODEL_NOT_FOUND'],
      ['serverError', 502, 'MODEL_FAILED'],
      ['errorLine', 502, 'MODEL_FAILED'],
      ['cut', 502, 'MODEL_CUT'],
      ['cutCleanly', 502, 'MODEL_CUT'],
      ['badJson', 502, 'MODEL_BAD_RESPONSE'],
      ['html', 502, 'MODEL_BAD_RESPONSE'],
      ['gzip', 502, 'MODEL_BAD_RESPONSE'],
      ['longLine', 502, 'MODEL_BAD_RESPONSE'],
      ['badUtf8', 502, 'MODEL_BAD_RESPONSE'],
      ['hangBetweenTokens', 504, 'MODEL_TIMEOUT'],
      ['hangBeforeHeaders', 504, 'MODEL_TIMEOUT'],
      ['byteASecond', 504, 'MODEL_TIMEOUT'],
    ]
    await Promise.all(
      faults.map(async ([fault, status, code]) => {
        const chatId = await newChat()
        const answer = await call<ApiError>('POST', messages(chatId), {
          content: `fault=${fault} after=0`,
        })
        t.match(answer, { status, body: { code, replyId: String, statusCode: status } }, fault)
        const { body } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
        t.match(body.messages, [
          { role: 'user', content: `fault=${fault} after=0`, status: 'complete' },
          { id: answer.body.replyId, status: 'error', error: { code } },
        ])
      }),
    )
    const chatId = await newChat()
    t.equal(
      (await call('POST', messages(chatId), { content: 'len=5' })).status,
      201,
      'slots are free',
    )
  })

  t.test('a stop is proof: the record, stopped; one that had ended, as it is', async (t) => {
    const chatId = await newChat()
    const before = standIn.callsOf('/api/chat').length
    const { body } = await call<Turn>(
      'POST',
      messages(chatId),
      { content: 'len=9000 rate=300' },
      { prefer: 'respond-async' },
    )
    const upstream = await standIn.chatCall(before + 1)
    const path = `${messages(chatId)}/${body.reply.id}/stop`
    const stopped = await call<Message>('POST', path)
    t.match(stopped, { status: 200, body: { id: body.reply.id, status: 'stopped' } })
    await upstream.whenClosed
    t.same((await call('POST', path)).body, stopped.body)
    t.match(await call('POST', `${messages(chatId)}/${body.message.id}/stop`), {
      status: 200,
      body: { role: 'user', status: 'complete' },
    })
  })

  t.test('a chat deleted while it generates: ended, and no row comes back', async (t) => {
    const chatId = await newChat()
    const before = standIn.callsOf('/api/chat').length
    const content = 'len=9000 rate=300'
    const waiting = call<ApiError>('POST', messages(chatId), { content })
    const upstream = await standIn.chatCall(before + 1)
    t.equal((await call('DELETE', `/api/ai/chats/${chatId}`)).status, 204)
    await upstream.whenClosed
    t.ok([201, 404].includes((await waiting).status))
    t.equal((await call('GET', `/api/ai/chats/${chatId}`)).status, 404)
    t.equal((await call('POST', messages(chatId), { content })).status, 404)
  })

  t.test('a message that cannot fit alone is refused by name, and nothing is stored', async (t) => {
    const chatId = await newChat()
    const before = standIn.callsOf('/api/chat').length
    const content = 'word '.repeat(19_000)
    const answer = await call<ApiError>('POST', messages(chatId), { content })
    t.match(answer, { status: 400, body: { code: 'MESSAGE_TOO_LONG', message: /tokens/ } })
    t.equal(standIn.callsOf('/api/chat').length, before)
    t.match((await call('GET', `/api/ai/chats/${chatId}`)).body, { messages: [] })
  })

  t.test('the body: not JSON, another type, too large, absent', async (t) => {
    const chatId = await newChat()
    const send = (body: string | undefined, type: string | undefined) =>
      new Promise<number>((resolve, reject) => {
        const request = httpRequest(url + messages(chatId), {
          method: 'POST',
          headers: { ...user.headers, ...(type && { 'content-type': type }) },
        })
        request.on('response', (response) => {
          response.resume()
          resolve(response.statusCode ?? 0)
        })
        request.on('error', reject)
        request.end(body)
      })
    const json = 'application/json'
    t.equal(await send('{"content":', json), 400)
    t.equal(await send('', json), 400)
    t.equal(await send(undefined, undefined), 400)
    t.equal(await send('null', json), 400)
    t.equal(await send('"text"', json), 400)
    t.equal(await send('content=x', 'application/x-www-form-urlencoded'), 415)
    t.equal(await send('{"content":"x"}', 'text/plain'), 415)
    t.equal(await send(JSON.stringify({ content: 'x'.repeat(1_100_000) }), json), 413)
    t.equal(await send('{"content":"x","__proto__":{"a":1}}', json), 400)
    t.equal(await send(`{"content":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, json), 400)
    t.match((await call('GET', `/api/ai/chats/${chatId}`)).body, { messages: [] })
  })
})
