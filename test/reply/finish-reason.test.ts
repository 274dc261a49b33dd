import t from 'tap'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { type Script, type Step, standInReply } from '../services/ollama-stand-in.js'

const endings: Record<string, Step[]> = {
  stop: [{ content: 'All of it.' }, { done: { done_reason: 'stop' } }],
  unsaid: [{ content: 'All of it.' }, { done: {} }],
  length: [{ content: 'The beginning' }, { done: { done_reason: 'length' } }],
  lengthInThinking: [{ thinking: 'So' }, { done: { done_reason: 'length' } }],
  tools: [
    {
      line: {
        message: { role: 'assistant', content: '', tool_calls: [{ function: { name: 'f' } }] },
        done: false,
      },
    },
    { done: { done_reason: 'stop' } },
  ],
  load: [{ done: { done_reason: 'load' } }],
  nothing: [{ done: { done_reason: 'stop' } }],
  thinkingAlone: [{ thinking: 'So' }, { done: { done_reason: 'stop' } }],
  later: [{ content: 'Text' }, { done: { done_reason: 'content_filter' } }],
}

const script: Script = (body) => endings[body.messages.at(-1)?.content ?? ''] ?? []

t.test('a complete reply says how it ended, in every way of hearing it', async (t) => {
  const { url, user, newChat, send, read } = await startConversation(t, {}, { script })
  const wanted = {
    stop: 'stop',
    unsaid: 'stop',
    length: 'length',
    lengthInThinking: 'length',
    tools: 'tool_calls',
    load: 'empty',
    nothing: 'empty',
    thinkingAlone: 'empty',
    later: 'content_filter',
  }
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  for (const [content, finishReason] of Object.entries(wanted)) {
    const chatId = await newChat()
    const { status, body } = await send(chatId, { content })
    t.equal(status, 201, content)
    t.match(body.reply, { status: 'complete', finishReason }, content)
    t.match((await read(chatId)).messages[1], { finishReason }, `${content}: as it is stored`)
    const { reply } = await ask(socket, 'chat-message', { chatId, content })
    t.equal((await heard.message(reply.id)).finishReason, finishReason, `${content}: as it is told`)
  }
})

t.test('a reply that has not ended, was stopped or failed has no finishReason', async (t) => {
  const { url, user, newChat, call, messagesOf } = await startConversation(t)
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  const { reply } = await ask(socket, 'chat-message', { chatId, content: 'len=9000 rate=100' })
  await heard.chunk(reply.id)
  t.equal(heard.starts.at(-1)?.finishReason, undefined)
  const stopped = await call<{ finishReason?: string }>(
    'POST',
    `${messagesOf(chatId)}/${reply.id}/stop`,
  )
  t.equal(stopped.body.finishReason, undefined)
  const failing = await newChat()
  const sent = await ask(socket, 'chat-message', { chatId: failing, content: 'fault=cut' })
  const failed = await heard.message(sent.reply.id)
  t.equal(failed.status, 'error')
  t.equal(failed.finishReason, undefined)
})

t.test('usage tells when the first token came, and how long the model thought', async (t) => {
  const { newChat, send } = await startConversation(t)
  const content = 'len=30 think=60 rate=200'
  const { body } = await send(await newChat(), { content })
  t.equal(body.reply.content, standInReply(content))
  const { firstTokenMs = -1, thinkingMs = -1 } = body.reply.usage ?? {}
  t.ok(firstTokenMs >= 0)
  t.ok(thinkingMs > 0)
  const unthinking = await send(await newChat(), { content: 'len=30' })
  t.equal(unthinking.body.reply.usage?.thinkingMs, undefined)
})
