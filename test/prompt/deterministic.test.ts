import t from 'tap'
import { testPassword } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse, startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInModel, standInReply } from '../services/ollama-stand-in.js'

const certain = { temperature: 0, seed: 7 }

t.test('a deterministic request is answered once by Ollama, then from the cache', async (t) => {
  const { standIn, url, user, newChat, send } = await startConversation(t)
  const calls = () => standIn.callsOf('/api/chat').length
  const content = 'len=3000 think=100'

  const first = await send(await newChat(), { content, options: certain })
  t.equal(first.body.reply.content, standInReply(content))
  t.equal(first.body.reply.usage?.cached, undefined)
  t.equal(calls(), 1)

  const chatId = await newChat()
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const again = await send(chatId, { content, options: certain })
  const { reply } = again.body
  t.equal(again.status, 201)
  t.match(reply, {
    status: 'complete',
    content: standInReply(content),
    thinking: first.body.reply.thinking,
    model: standInModel.name,
    usage: { cached: true, replyTokens: first.body.reply.usage?.replyTokens, contextLength: 4096 },
  })
  t.equal(calls(), 1, 'Ollama was not asked')
  t.same(await heard.message(reply.id), reply, 'the room heard a reply like any other')
  t.equal(heard.text(reply.id), standInReply(content))
  t.match(
    // Where servers share the queue a place is told before it is had.
    heard.starts.map(({ status }) => status).filter((status) => status !== 'queued'),
    ['streaming'],
  )

  const later = await send(chatId, { content, options: certain })
  t.notOk(later.body.reply.usage?.cached, 'after another message it is another request')
  t.equal(calls(), 2)
})

t.test('anything else than the very same is asked again', async (t) => {
  const models = [
    { ...standInModel, name: 'one:latest', digest: 'a'.repeat(64) },
    { ...standInModel, name: 'two:latest', digest: 'b'.repeat(64) },
    { ...standInModel, name: 'nameless:latest', digest: '' },
    { ...standInModel, name: 'other-nameless:latest', digest: '' },
  ]
  const { standIn, newChat, send } = await startConversation(t, {}, { models })
  const isCached = async (
    options: object,
    { content = 'len=30', model = 'one', system = '' } = {},
  ) => {
    const chatId = await newChat({ model, ...(system && { system }) })
    const { body } = await send(chatId, { content, options })
    t.equal(body.reply.content, standInReply(content))
    return body.reply.usage?.cached === true
  }
  t.equal(await isCached(certain), false)
  t.equal(await isCached(certain), true)
  t.equal(await isCached({ seed: 7, temperature: 0 }), true, 'options have no order')
  t.equal(await isCached(certain, { content: 'len=31' }), false)
  t.equal(await isCached(certain, { system: 'Be brief.' }), false)
  t.equal(await isCached({ ...certain, seed: 8 }), false)
  t.equal(await isCached({ ...certain, top_k: 1 }), false)
  t.equal(await isCached(certain, { model: 'two' }), false)
  for (const _ of ['first', 'again']) {
    t.equal(await isCached({ temperature: 0 }), false, 'no seed')
    t.equal(await isCached({ seed: 7 }), false, 'no temperature')
    t.equal(await isCached({ temperature: 0.1, seed: 7 }), false, 'a temperature')
  }
  t.equal(await isCached(certain, { model: 'nameless' }), false)
  t.equal(await isCached(certain, { model: 'other-nameless' }), false, 'no digest names a model')
  const [one] = standIn.models
  if (one) one.digest = 'c'.repeat(64)
  // The list is renewed in time; until then it names the old digest.
  await eventually('pulled anew it is another model', async () => !(await isCached(certain)))
})

t.test('a cached reply is its user’s own: another user’s same request is generated', async (t) => {
  const { standIn, url, newChat, send } = await startConversation(t)
  const content = 'len=30'
  const first = await send(await newChat(), { content, options: certain })
  t.equal(first.body.reply.usage?.cached, undefined)
  const other = await converse(url)
  const theirs = await other.send(await other.newChat(), { content, options: certain })
  t.equal(theirs.body.reply.content, standInReply(content))
  t.equal(theirs.body.reply.usage?.cached, undefined, 'nothing tells that somebody asked it before')
  t.equal(standIn.callsOf('/api/chat').length, 2)
  const again = await other.send(await other.newChat(), { content, options: certain })
  t.equal(again.body.reply.usage?.cached, true, 'it is cached for each')
  t.equal(standIn.callsOf('/api/chat').length, 2)
})

t.test('cached replies go with their account', async (t) => {
  const { app, user, call, newChat, send } = await startConversation(t)
  const kept: string[] = []
  const { cache } = app
  const { set } = cache
  cache.set = async (key, value, ttlMs) => {
    if (value.includes(standInReply('len=30'))) kept.push(key)
    return set(key, value, ttlMs)
  }
  const options = { ...certain, seed: 8 }
  const first = await send(await newChat(), { content: 'len=30', options })
  t.equal(first.body.reply.usage?.cached, undefined)
  const [key = ''] = kept
  t.type(await cache.get(key), 'string')
  t.equal((await call('DELETE', '/api/auth/profile', { password: testPassword })).status, 204)
  for (const one of kept) t.equal(await cache.get(one), undefined)
  t.ok(key.includes(user.user.id))
})

t.test('what failed or was stopped is not remembered', async (t) => {
  const { standIn, call, messagesOf, newChat, send, post } = await startConversation(t)
  const content = 'len=400 rate=60'
  const { body } = await post(await newChat(), { content, options: certain })
  const { chatId, id } = body.reply
  await standIn.chatCall()
  t.match(await call('POST', `${messagesOf(chatId)}/${id}/stop`), { body: { status: 'stopped' } })
  const failing = { content: 'len=40 fault=cutCleanly', options: certain }
  for (const _ of ['first', 'again']) {
    t.equal((await send(await newChat(), failing)).status, 502)
  }
  const whole = await send(await newChat(), { content, options: certain })
  t.equal(whole.body.reply.content, standInReply(content))
  t.notOk(whole.body.reply.usage?.cached)
  t.equal(standIn.callsOf('/api/chat').length, 4)
})
