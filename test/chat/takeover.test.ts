import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { io } from 'socket.io-client'
import t from 'tap'
import type { ChatWithMessages } from '../../schemas/chats.js'
import type { Message } from '../../schemas/messages.js'
import { followReply } from '../../web/follow.js'
import { ReplyText } from '../../web/reply-text.js'
import { ChatStream } from '../../web/stream.js'
import { api, startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInModel, standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { startServer } from '../services/server-process.js'
import { aTurn } from '../stores/rows.js'

/** A port that was free a moment ago, for a server that comes back to it. */
async function freePort(): Promise<string> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return `${port}`
}

for (const continues of [true, false]) {
  const name = continues ? 'from the text that was kept' : 'from the beginning'
  t.test(`after kill -9 replies go on by themselves, ${name}, and clients end right`, async (t) => {
    const standIn = await startStandIn({ models: [{ ...standInModel, continues }] })
    t.teardown(() => standIn.close())
    const settings = {
      DATA_DIR: t.testdir(),
      OLLAMA_API_URL: standIn.url,
      PORT: await freePort(),
      OLLAMA_MAX_CONCURRENT: '2',
    }
    const first = await startServer(settings)
    t.teardown(() => first.end('SIGKILL'))
    const { url } = first
    const { user, newChat, post, read, messagesOf } = await converse(url)
    const contents = ['len=1200 rate=150 think=20', 'len=1000 rate=150', 'len=100', 'len=90']
    const replies: Message[] = []
    for (const content of contents) {
      replies.push((await post(await newChat(), { content })).body.reply)
    }
    const [watched, followed] = replies
    if (!watched || !followed) return t.fail('nothing runs')
    const socket = io(url, { auth: { token: user.token }, transports: ['websocket'] })
    t.teardown(() => socket.disconnect())
    const texts = new Set<string>()
    const stream = new ChatStream(socket, watched.chatId, {
      onChange: ({ text, ended }) => !ended && texts.add(text),
    })
    const text = new ReplyText(followed.id)
    const followUrl = `${url}${messagesOf(followed.chatId)}/${followed.id}/stream`
    const following = followReply(fetch, followUrl, user.token, text, AbortSignal.timeout(60_000))
    for (const { chatId } of [watched, followed]) {
      await eventually('its text is kept', async () => {
        return ((await read(chatId)).messages[1]?.content.length ?? 0) > 50
      })
    }
    const begun = standIn.callsOf('/api/chat').length
    await first.end('SIGKILL')

    const second = await startServer(settings)
    t.teardown(() => second.end('SIGKILL'))
    // Of the last two nobody asks: they are looked up in the end.
    t.equal((await following).content, standInReply(contents[1] ?? ''))
    await eventually('it has ended', () => stream.reply(watched.id)?.ended === true)
    const whole = standInReply(contents[0] ?? '')
    t.equal(stream.reply(watched.id)?.text, whole)
    t.ok(
      [...texts].every((seen) => whole.startsWith(seen)),
      'right at every moment',
    )
    for (const [n, { chatId }] of replies.entries()) {
      await eventually('it is complete', async () => {
        return (await read(chatId)).messages[1]?.status === 'complete'
      })
      const { messages } = await read(chatId)
      t.equal(messages.length, 2, 'stored once')
      t.equal(messages[1]?.content, standInReply(contents[n] ?? ''))
    }
    const again = standIn.callsOf('/api/chat').slice(begun)
    t.equal(again.length, 4)
    const goneOn = again.filter(({ body }) => body.messages.at(-1)?.role === 'assistant')
    t.equal(goneOn.length, continues ? 2 : 0)
    const socketAfter = await connect(t, url, user.token)
    const joined = await ask(socketAfter, 'join-chat', {
      chatId: watched.chatId,
      messageId: watched.id,
    })
    t.match(joined.active, [{ epoch: 2, status: 'complete' }])
  })
}

t.test('a reply that was taken over three times is interrupted, with its text', async (t) => {
  const DATA_DIR = t.testdir()
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const settings = { DATA_DIR, OLLAMA_API_URL: standIn.url }
  // It does not look for lapsed replies again before it is closed.
  const first = await startApp(t, { ...settings, LEASE_MS: '600000' })
  const { store } = first.app
  const { user, newChat } = await converse(first.url)
  const chatIds = [await newChat(), await newChat(), await newChat()]
  const content = 'len=400'
  const begun = standInReply(content).slice(0, 100)
  for (const [n, id] of chatIds.entries()) {
    const turn = aTurn({ id, userId: user.user.id }, { content, leaseUntil: new Date(0) })
    const model = n === 2 ? 'gone:latest' : standInModel.name
    const { reply } = await store.appendTurn({ ...turn, reply: { ...turn.reply, model } })
    const change = {
      status: 'streaming',
      content: begun,
      epoch: 4,
      takeovers: n === 1 ? 3 : 2,
    } as const
    await store.updateReply(reply.id, { status: ['queued'] }, change)
  }
  await first.close()

  const second = await startApp(t, settings)
  const call = api(second.url, user.token)
  const ended = async (chatId: string) => {
    let reply: Message | undefined
    await eventually('it has ended', async () => {
      const { body } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
      reply = body.messages[1]
      return reply?.status !== 'streaming' && reply?.status !== 'queued'
    })
    return reply
  }
  const [third, fourth, gone] = chatIds
  t.match(await ended(third ?? ''), { status: 'complete', content: standInReply(content) })
  t.match(await ended(fourth ?? ''), {
    status: 'interrupted',
    content: begun,
    error: { code: 'REPLY_INTERRUPTED' },
    completedAt: String,
  })
  t.match(await ended(gone ?? ''), {
    status: 'interrupted',
    content: begun,
    error: { code: 'MODEL_NOT_FOUND' },
  })
  t.equal(standIn.callsOf('/api/chat').length, 1, 'only one was tried again')
})

t.test('a later reply of a chat waits for one that waits for Ollama', async (t) => {
  const DATA_DIR = t.testdir()
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const settings = { DATA_DIR, OLLAMA_API_URL: standIn.url, LEASE_MS: '600' }
  const first = await startApp(t, settings)
  const { user, newChat, post } = await converse(first.url)
  const chatId = await newChat()
  await post(chatId, { content: 'len=900 rate=100' })
  await post(chatId, { content: 'len=10' })
  const socket = await connect(t, first.url, user.token)
  const heard = record(socket)
  socket.emit('join-chat', { chatId })
  await heard.until(() => heard.chunks[3])
  await first.close()
  await standIn.stop()

  const second = await startApp(t, settings)
  // Longer than it takes to look twice.
  const at = performance.now()
  await eventually('it has looked', () => performance.now() - at > 1000)
  t.same(second.app.generations.counts, { waiting: 0, running: 0 })
  await standIn.restart()
  const call = api(second.url, user.token)
  await eventually('both are complete', async () => {
    const { body } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    return body.messages.every(({ status }) => status === 'complete')
  })
  const last = standIn.callsOf('/api/chat').at(-1)
  t.match(last?.body.messages, [
    { content: 'len=900 rate=100' },
    { role: 'assistant', content: standInReply('len=900 rate=100') },
    { content: 'len=10' },
  ])
})
