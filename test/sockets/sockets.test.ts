import { io } from 'socket.io-client'
import t from 'tap'
import type { Chat, ChatWithMessages } from '../../schemas/chats.js'
import type { Turn } from '../../schemas/messages.js'
import { newId } from '../../src/ids.js'
import { api, register, startApp } from '../services/app.js'
import { ask, connect, hear, record } from '../services/client.js'
import { standInReply, startStandIn } from '../services/ollama-stand-in.js'

t.test('sockets', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { url, app } = await startApp(t, {
    OLLAMA_API_URL: standIn.url,
    RATE_LIMIT_SOCKET_EVENTS_PER_SECOND: '200',
  })
  const user = await register(url)
  const call = api(url, user.token)
  const newChat = async (): Promise<string> =>
    (await call<Chat>('POST', '/api/ai/chats', {})).body.id

  t.test('a conversation, acknowledged once stored, heard by everybody in the room', async (t) => {
    const chatId = await newChat()
    const [sender, viewer] = await Promise.all([
      connect(t, url, user.token),
      connect(t, url, user.token),
    ])
    const [heard, seen] = [record(sender), record(viewer)]
    t.same(await ask(viewer, 'join-chat', { chatId }), { ok: true, active: [] })
    const prompt = 'len=500 rate=500 think=60'
    const sent = await ask(sender, 'chat-message', { chatId, content: prompt })
    t.match(sent, {
      ok: true,
      message: { role: 'user', seq: 1, status: 'complete', content: prompt },
      reply: { role: 'assistant', seq: 2, content: '' },
    })
    const { reply } = sent
    for (const hearing of [heard, seen]) {
      const done = await hearing.message(reply.id)
      t.match(done, { status: 'complete', content: standInReply(prompt), seq: 2 })
      t.equal(hearing.text(reply.id), standInReply(prompt), 'the frames are the text')
      t.match(
        hearing.messages.map((one) => one.role),
        ['user', 'assistant'],
      )
      t.ok(hearing.starts.some((start) => start.id === reply.id && start.status === 'streaming'))
      const thought = hearing.chunks.filter((chunk) => chunk.thinking).map((chunk) => chunk.delta)
      t.equal(thought.join(''), done.thinking, 'thinking has frames of its own')
    }
    const stored = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    t.equal(stored.body.messages[1]?.content, standInReply(prompt))
  })

  t.test('a plain client, without acknowledgements, works', async (t) => {
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const heard = record(socket)
    socket.emit('join-chat', { chatId })
    socket.emit('chat-message', { chatId, content: 'len=40' })
    const reply = await heard.until(() => heard.messages.find((one) => one.role === 'assistant'))
    t.match(reply, { status: 'complete', content: standInReply('len=40') })
    socket.emit('leave-chat', { chatId })
    // Answered in order, so the room is left by the time this is.
    await ask(socket, 'leave-chat', { chatId })
    const told = heard.messages.length
    await call('POST', `/api/ai/chats/${chatId}/messages`, { content: 'len=10' })
    t.equal(heard.messages.length, told, 'who has left hears nothing')
  })

  t.test('the same clientMessageId gives the same two records', async (t) => {
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const payload = { chatId, content: 'len=20', clientMessageId: 'mine-1' }
    const before = standIn.callsOf('/api/chat').length
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => ask(socket, 'chat-message', payload)),
    )
    const ids = new Set(answers.map((answer) => `${answer.message.id} ${answer.reply.id}`))
    t.equal(ids.size, 1)
    const overRest = await call<Turn>(
      'POST',
      `/api/ai/chats/${chatId}/messages`,
      { content: 'len=20' },
      { 'idempotency-key': 'mine-1' },
    )
    t.equal(overRest.body.reply.id, answers[0].reply.id, 'over REST too')
    t.equal(standIn.callsOf('/api/chat').length - before, 1, 'Ollama was called once')
    t.match(await ask(socket, 'chat-message', { ...payload, content: 'other' }), {
      ok: false,
      error: { code: 'IDEMPOTENCY_KEY_REUSED', retryable: false },
    })
  })

  t.test('a late joiner gets what it missed in one piece, then live frames', async (t) => {
    const chatId = await newChat()
    const [sender, late] = await Promise.all([
      connect(t, url, user.token),
      connect(t, url, user.token),
    ])
    const [heard, caught] = [record(sender), record(late)]
    const prompt = 'len=900 rate=400'
    const { reply } = await ask(sender, 'chat-message', { chatId, content: prompt })
    await heard.until(() => (heard.text(reply.id).length > 200 ? true : undefined))
    const { active } = await ask(late, 'join-chat', {
      chatId,
      messageId: reply.id,
      epoch: 1,
      offset: 50,
    })
    t.match(active, [{ messageId: reply.id, epoch: 1, status: 'streaming', offset: 50 }])
    await caught.message(reply.id)
    const whole = standInReply(prompt)
    t.equal(
      whole.slice(0, 50) + active[0].text + caught.text(reply.id),
      whole,
      'no gap, no overlap',
    )
    const ended = await ask(late, 'join-chat', {
      chatId,
      messageId: reply.id,
      epoch: 1,
      offset: 880,
    })
    t.match(ended.active, [{ status: 'complete', offset: 880, text: whole.slice(880) }])
    const beyond = await ask(late, 'join-chat', {
      chatId,
      messageId: reply.id,
      epoch: 1,
      offset: 9999,
    })
    t.match(beyond.active, [{ offset: whole.length, text: '' }], 'never beyond the end')
  })

  t.test(
    'who joins while a reply ends is told of the end, by the answer or after it',
    async (t) => {
      const chatId = await newChat()
      const [sender, late] = await Promise.all([
        connect(t, url, user.token),
        connect(t, url, user.token),
      ])
      const [heard, caught] = [record(sender), record(late)]
      const content = 'len=300 rate=300'
      const { reply } = await ask(sender, 'chat-message', { chatId, content })
      await heard.chunk(reply.id)
      const { listActiveReplies } = app.store
      t.teardown(() => {
        app.store.listActiveReplies = listActiveReplies
      })
      // As a database may: what it has read is out of date when it arrives.
      app.store.listActiveReplies = async (id) => {
        const rows = await listActiveReplies(id)
        await heard.message(reply.id)
        return rows
      }
      const asked = { chatId, messageId: reply.id, epoch: 1, offset: 0 }
      const { active } = await ask(late, 'join-chat', asked)
      t.match(active, [{ messageId: reply.id, status: 'complete', text: standInReply(content) }])
      t.same((await ask(late, 'join-chat', { chatId })).active, [], 'it is not active any more')
      t.same(caught.messages, [])
    },
  )

  t.test('a stop ends the reply with its text so far, once, and frees Ollama', async (t) => {
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const heard = record(socket)
    const before = standIn.callsOf('/api/chat').length
    const { reply } = await ask(socket, 'chat-message', { chatId, content: 'len=9000 rate=200' })
    await heard.chunk(reply.id)
    const upstream = await standIn.chatCall(before + 1)
    const [first, second] = await Promise.all([
      ask(socket, 'stop-message', { chatId, messageId: reply.id }),
      ask(socket, 'stop-message', { chatId, messageId: reply.id }),
    ])
    await upstream.whenClosed
    t.match(first, { ok: true, message: { id: reply.id, status: 'stopped' } })
    t.same(second, first, 'two stops are one')
    t.ok(standInReply('len=9000 rate=200').startsWith(first.message.content))
    await heard.message(reply.id)
    t.equal(heard.messages.filter((one) => one.id === reply.id).length, 1)
    const again = await ask(socket, 'stop-message', { chatId, messageId: reply.id })
    t.same(again.message, first.message, 'one that had ended, as it is')
  })

  t.test(
    'all of a user’s sockets hear of chats, joined or not, and nobody else does',
    async (t) => {
      const other = await register(url)
      const [mine, theirs] = await Promise.all([
        connect(t, url, user.token),
        connect(t, url, other.token),
      ])
      const foreign: string[] = []
      theirs.onAny((event) => foreign.push(event))
      const created = hear(mine, 'chat-created')
      const chatId = await newChat()
      t.match(await created, [{ chat: { id: chatId, user: user.user.id } }])
      const updated = hear(mine, 'chat-updated')
      await call('PATCH', `/api/ai/chats/${chatId}`, { title: 'Named' })
      t.match(await updated, [{ chat: { id: chatId, title: 'Named' } }])
      const deleted = hear(mine, 'chat-deleted')
      await call('DELETE', `/api/ai/chats/${chatId}`)
      t.same(await deleted, [{ chatId }])
      await ask(theirs, 'leave-chat', { chatId })
      t.same(foreign, [])
    },
  )

  t.test('bad payloads get a typed error; the process lives and nothing is stored', async (t) => {
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const bad: [string, unknown[]][] = [
      ['join-chat', []],
      ['join-chat', [null]],
      ['join-chat', [[chatId]]],
      ['join-chat', [{ chatId: 'wrong' }]],
      ['join-chat', [{ chatId: { $ne: null } }]],
      ['join-chat', [{ chatId, offset: -1 }]],
      ['join-chat', [{ chatId, offset: '1' }]],
      ['join-chat', [{ chatId, extra: true }]],
      ['leave-chat', [42]],
      ['chat-message', [{ chatId }]],
      ['chat-message', [{ chatId, content: '' }]],
      ['chat-message', [{ chatId, content: 'x'.repeat(100_001) }]],
      ['chat-message', [{ chatId, content: 'nul \0' }]],
      ['chat-message', [{ chatId, content: 'lone \ud800' }]],
      ['chat-message', [{ chatId, content: 'x', options: { temperature: 99 } }]],
      ['chat-message', [{ chatId, content: 'x', options: { invented: 1 } }]],
      ['chat-message', [{ chatId, content: Buffer.from('binary') }]],
      ['chat-message', [{ chatId, content: 'x', role: 'system' }]],
      ['stop-message', [{ chatId, messageId: [] }]],
    ]
    for (const [event, payload] of bad) {
      const answer = await ask(socket, event, ...payload)
      t.match(answer, {
        ok: false,
        error: { code: /^(VALIDATION_FAILED|BAD_TEXT)$/, retryable: false },
      })
    }
    t.match(await ask(socket, 'no-such-event', {}), { ok: false, error: { code: 'NOT_FOUND' } })
    t.match(await ask(socket, 'stop-message', { chatId, messageId: newId() }), {
      error: { code: 'MESSAGE_NOT_FOUND' },
    })
    const told = hear(socket, 'event-error')
    socket.emit('chat-message', { chatId, content: '' })
    t.match(await told, [
      { event: 'chat-message', ok: false, error: { code: 'VALIDATION_FAILED' } },
    ])
    const { body } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    t.same(body.messages, [])
  })

  t.test('hundreds of events at once are each answered', async (t) => {
    const chatId = await newChat()
    for (const transports of [['websocket'], ['polling']]) {
      const socket = await connect(t, url, user.token, { transports, reconnection: false })
      const events = Array.from({ length: 600 }, () => ask(socket, 'leave-chat', { chatId }))
      for (const { ok, error } of await Promise.all(events)) {
        if (!ok) t.equal(error.code, 'RATE_LIMITED')
      }
      t.ok(socket.connected, `over ${transports}`)
    }
  })

  t.test('abuse is disconnected: a packet of 1 MB, and a flood', async (t) => {
    const chatId = await newChat()
    const large = await connect(t, url, user.token, { reconnection: false })
    large.emit('chat-message', { chatId, content: 'x'.repeat(1_000_000) })
    await hear(large, 'disconnect')
    const flooding = await connect(t, url, user.token, { reconnection: false })
    const disconnected = hear(flooding, 'disconnect')
    // More than a second's worth, since a second may end in the middle of them.
    for (let n = 0; n < 5000; n++) flooding.emit('leave-chat', { chatId })
    await disconnected
    const { body } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    t.same(body.messages, [], 'the process lives')
  })

  t.test(
    'the handshake wants a token and an origin that is let in, over both transports',
    async (t) => {
      const refused = async (options: object) => {
        const socket = io(url, { reconnection: false, forceNew: true, ...options })
        t.teardown(() => socket.disconnect())
        const [error] = await hear(socket, 'connect_error')
        return error
      }
      for (const transport of ['websocket', 'polling']) {
        const transports = [transport]
        t.match(await refused({ transports }), {
          message: /auth: \{token\}/,
          data: { code: 'UNAUTHORIZED', message: /auth: \{token\}/ },
        })
        await connect(t, url, `Bearer ${user.token}`, { transports })
        t.match(await refused({ transports, auth: { token: 42 } }), {
          data: { code: 'UNAUTHORIZED' },
        })
        const foreign = {
          transports,
          auth: { token: user.token },
          extraHeaders: { origin: 'https://evil.example' },
        }
        t.ok(await refused(foreign), `${transport}: a foreign origin`)
        const own = await connect(t, url, user.token, {
          transports,
          extraHeaders: { origin: 'http://localhost:5173' },
        })
        t.ok(own.connected)
        const header = { authorization: `Bearer ${user.token}` }
        const byHeader = io(url, { transports, forceNew: true, extraHeaders: header })
        t.teardown(() => byHeader.disconnect())
        await hear(byHeader, 'connect')
      }
    },
  )

  t.test('join-chat and leave-chat take the bare id of the chat, too', async (t) => {
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const heard = record(socket)
    t.same(await ask(socket, 'join-chat', chatId), { ok: true, active: [] })
    await call('POST', `/api/ai/chats/${chatId}/messages`, { content: 'len=10' })
    await heard.until(() => heard.messages.find(({ role }) => role === 'assistant'))
    t.same(await ask(socket, 'leave-chat', chatId), { ok: true })
    await call('POST', `/api/ai/chats/${chatId}/messages`, { content: 'len=10' })
    await ask(socket, 'leave-chat', chatId)
    t.equal(heard.messages.length, 2, 'nothing more is heard after it')
    t.match(await ask(socket, 'join-chat', newId()), { error: { code: 'CHAT_NOT_FOUND' } })
  })

  t.test('a payload of the wrong shape is told the right one', async (t) => {
    const socket = await connect(t, url, user.token)
    const rows: [event: string, payload: unknown, shape: RegExp][] = [
      ['join-chat', 42, / takes \{chatId, messageId\?, epoch\?, offset\?\} or the chatId alone\.$/],
      ['join-chat', 'text', / takes \{chatId, /],
      ['leave-chat', [newId()], / takes \{chatId\} or the chatId alone\.$/],
      [
        'chat-message',
        newId(),
        / takes \{chatId, content, clientMessageId\?, model\?, options\?\}\.$/,
      ],
      ['stop-message', { chatId: newId() }, / takes \{chatId, messageId\}\.$/],
      ['authenticate', user.token, / takes \{token\}\.$/],
    ]
    for (const [event, payload, shape] of rows) {
      const { error } = await ask(socket, event, payload)
      t.equal(error.code, 'VALIDATION_FAILED', event)
      t.match(error.message, shape)
    }
  })
})

t.test('closing the server closes sockets so that they connect again', async (t) => {
  const { url, app } = await startApp(t)
  const user = await register(url)
  const socket = await connect(t, url, user.token, { reconnection: false })
  const gone = hear(socket, 'disconnect')
  await app.close()
  const [reason] = await gone
  t.equal(reason, 'transport close', 'a reason after which clients reconnect by themselves')
})
