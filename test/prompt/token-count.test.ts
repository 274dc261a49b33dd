import t, { type Test } from 'tap'
import type { ChatWithMessages } from '../../schemas/chats.js'
import type { Message } from '../../schemas/messages.js'
import { api } from '../services/app.js'
import { converse } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInModel, standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { startServer } from '../services/server-process.js'
import { tokensOf } from '../services/stand-in-reply.js'

const numPredict = 150

/**
 * A reply of at most 150 tokens whose server is killed when it has some, as the next server ends
 * it; with how many tokens each request to Ollama asked for, and how many the first one gave.
 */
async function killedInMidReply(t: Test, continues: boolean) {
  const standIn = await startStandIn({ models: [{ ...standInModel, continues }] })
  t.teardown(() => standIn.close())
  const settings = { DATA_DIR: t.testdir(), OLLAMA_API_URL: standIn.url, LEASE_MS: '1000' }
  const first = await startServer(settings)
  t.teardown(() => first.end('SIGKILL'))
  const { user, newChat, post, read } = await converse(first.url)
  const chatId = await newChat()
  const content = 'len=3000 rate=15'
  await post(chatId, { content, options: { num_predict: numPredict } })
  await eventually('its text is kept', async () => {
    return (await read(chatId)).messages[1]?.content !== ''
  })
  await first.end('SIGKILL')

  const second = await startServer(settings)
  t.teardown(() => second.end('SIGKILL'))
  const call = api(second.url, user.token)
  let reply: Message | undefined
  await eventually('it has ended', async () => {
    const { body } = await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)
    reply = body.messages[1]
    return reply?.status === 'complete'
  })
  const asked = standIn.callsOf('/api/chat').map(({ body }) => Number(body.options?.num_predict))
  return { reply, asked, whole: tokensOf(standInReply(content)) }
}

t.test('a takeover asks for the tokens that are left of num_predict', async (t) => {
  const { reply, asked, whole } = await killedInMidReply(t, true)
  const [first, left = 0] = asked
  t.equal(first, numPredict)
  t.ok(left > 0 && left < numPredict, `${left} are asked for`)
  t.equal(reply?.content, whole.slice(0, numPredict).join(''))
  t.match(reply, { finishReason: 'length', usage: { replyTokens: numPredict } })
})

t.test('usage counts the tokens of a run whose text was discarded', async (t) => {
  const { reply, asked, whole } = await killedInMidReply(t, false)
  t.same(asked, [numPredict, numPredict])
  t.equal(reply?.content, whole.slice(0, numPredict).join(''))
  const { replyTokens = 0 } = reply?.usage ?? {}
  t.ok(replyTokens > numPredict && replyTokens < 2 * numPredict, `${replyTokens} tokens`)
})
