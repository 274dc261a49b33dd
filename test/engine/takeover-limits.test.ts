import t from 'tap'
import type { ChatWithMessages } from '../../schemas/chats.js'
import type { Message } from '../../schemas/messages.js'
import { api, startApp } from '../services/app.js'
import { connect, record } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInModel, standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { aTurn } from '../stores/rows.js'

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
