import t from 'tap'
import type { Chat } from '../../schemas/chats.js'
import type { MessageStart, Turn } from '../../schemas/messages.js'
import { newId } from '../../src/ids.js'
import { api, register, startApp } from '../services/app.js'
import { connect } from '../services/client.js'
import { startStandIn } from '../services/ollama-stand-in.js'

t.test('what replies, sockets, the store and the cache do is told', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { url } = await startApp(t, { OLLAMA_API_URL: standIn.url })
  const user = await register(url)
  const call = api(url, user.token)
  const socket = await connect(t, url, user.token)
  const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
  const path = `/api/ai/chats/${chat.id}/messages`
  const first = await call<Turn>('POST', path, { content: 'len=60' })
  t.equal((await call('POST', path, { content: 'fault=serverError' })).status, 502)
  const running = await call<Turn>(
    'POST',
    path,
    { content: 'len=9000 rate=50' },
    { prefer: 'respond-async' },
  )
  await standIn.chatCall(3)
  for (let n = 0; n < 2; n += 1) await call('GET', '/api/ai/chats')

  const text = await (await fetch(`${url}/metrics`)).text()
  const value = (line: string) => {
    const found = text.split('\n').find((one) => one.startsWith(`${line} `))
    return found === undefined ? undefined : Number(found.split(' ').at(-1))
  }
  t.equal(value('chat_sockets'), 1)
  t.equal(value('chat_replies_running'), 1)
  t.equal(value('chat_replies_waiting'), 0)
  t.equal(value('chat_replies_ended_total{status="complete"}'), 1)
  t.equal(value('chat_replies_ended_total{status="error"}'), 1)
  t.equal(value('chat_tokens_total{kind="reply"}'), first.body.reply.usage?.replyTokens)
  t.equal(value('chat_queue_wait_seconds_count'), 3)
  t.ok((value('chat_time_to_first_token_seconds_count') ?? 0) >= 2)
  t.ok((value('chat_token_gap_seconds_count') ?? 0) >= 1)
  t.equal(value('chat_replies_taken_over_total'), 0)
  for (const service of ['db', 'redis', 'ollama']) {
    t.equal(value(`chat_service_up{service="${service}"}`), 1)
  }
  t.ok((value('store_operation_duration_seconds_count{operation="appendTurn"}') ?? 0) >= 3)
  t.equal(value('cache_reads_total{kind="chats",result="hit"}'), 1)
  t.ok(value('nodejs_eventloop_lag_p99_seconds') !== undefined)
  // Labels are of bounded number: nobody's ids are in them.
  for (const id of [user.user.id, chat.id, running.body.reply.id]) t.notMatch(text, id)
  socket.disconnect()
})

t.test('every gap between two frames of a reply is counted', async (t) => {
  const { app, url } = await startApp(t)
  const reply: MessageStart = {
    id: newId(),
    chatId: newId(),
    seq: 2,
    role: 'assistant',
    content: '',
    status: 'streaming',
    createdAt: new Date().toISOString(),
    epoch: 1,
  }
  const { id: messageId, chatId, epoch } = reply
  app.chatEvents.toChat(chatId, 'message-start', reply)
  for (let offset = 0; offset < 2500; offset++) {
    app.chatEvents.toChat(chatId, 'message-chunk', { chatId, messageId, epoch, offset, delta: 'a' })
  }
  const text = await (await fetch(`${url}/metrics`)).text()
  t.match(text, 'chat_token_gap_seconds_count 2499\n')
})
