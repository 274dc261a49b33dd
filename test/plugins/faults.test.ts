import { randomUUID } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { Redis } from 'ioredis'
import t from 'tap'
import { newId } from '../../src/ids.js'
import { register, startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { send } from '../services/raw.js'

// An exception that nobody catches ends the process, and this test with it.

t.test('a stream of events that fails is cut, and the server lives', async (t) => {
  const frame = (data: object) => ({ event: 'message', id: 'x', data })
  const streams: Record<string, () => AsyncIterable<ReturnType<typeof frame>>> = {
    'in-the-middle': async function* () {
      yield frame({})
      throw new Error('the store is away')
    },
    'no-json': async function* () {
      yield frame({ n: 1n })
    },
    'at-its-end': () => ({
      [Symbol.asyncIterator]: () => ({
        next: () => Promise.reject(new Error('the store is away')),
        return: () => Promise.reject(new Error('still away')),
      }),
    }),
  }
  const { url } = await startApp(t, {}, (app) => {
    app.after(() => {
      for (const [name, events] of Object.entries(streams)) {
        app.get(`/${name}`, (_request, reply) =>
          reply.sendEvents(events(), new AbortController().signal),
        )
      }
      app.get('/bad-header', async (_request, reply) => reply.header('x-bad', 'a\nb').send({}))
    })
  })
  for (const name of Object.keys(streams)) {
    // Cut, or ended by an error: either way the client is not left waiting.
    await send(url, 'GET', `/${name}`).catch(() => {})
    t.equal((await send(url, 'GET', '/health/live')).status, 200, name)
  }
  t.equal((await send(url, 'GET', '/bad-header')).status, 500)
  t.equal(
    (await send(url, 'GET', '/health/live')).status,
    200,
    'after a header that cannot be sent',
  )
})

t.test('an answer to a socket that cannot be made or encoded is INTERNAL', async (t) => {
  const { app, url } = await startApp(t)
  const payload = Type.Object({})
  app.onClientEvent({ name: 'no-json', payload, handle: async () => ({ n: 1n }) })
  app.onClientEvent({
    name: 'not-made',
    payload,
    handle: async () => () => {
      throw new Error('canary-detail')
    },
  })
  const { token } = await register(url)
  const socket = await connect(t, url, token)
  for (const event of ['no-json', 'not-made']) {
    const answer = await ask(socket, event, {})
    t.match(answer, { ok: false, error: { code: 'INTERNAL', retryable: false } }, event)
    t.notMatch(JSON.stringify(answer), /canary/, event)
  }
})

t.test(
  'a listener of events that fails harms neither the reply nor who else listens',
  async (t) => {
    const { app, newChat, send: say, url, user } = await startConversation(t)
    const stop = app.chatEvents.listen({
      toChat() {
        throw new Error('a listener failed')
      },
      toUser() {
        throw new Error('a listener failed')
      },
    })
    t.teardown(stop)
    const socket = await connect(t, url, user.token)
    const chatId = await newChat()
    const { status, body } = await say(chatId, { content: 'len=30' })
    t.match({ status, body }, { status: 201, body: { reply: { status: 'complete' } } })
    t.match(await ask(socket, 'join-chat', { chatId }), { ok: true })
  },
)

const { REDIS_URL } = process.env

t.test(
  'a message in Redis that cannot be read is passed over',
  { skip: REDIS_URL ? false : 'REDIS_URL is not set' },
  async (t) => {
    const { app, newChat, send: say, url, user } = await startConversation(t)
    await connect(t, url, user.token)
    const redis = new Redis(app.config.REDIS_URL ?? '')
    t.teardown(() => redis.disconnect())
    const channels = (await redis.call('PUBSUB', 'CHANNELS')) as string[]
    t.ok(channels.length > 0, channels.join())
    for (const channel of channels) {
      // A server's message begins with its ids; then comes JSON.
      for (const [serial, json] of ['{', 'null', '{}', '{"event":1}', ''].entries()) {
        await redis.publish(channel, `${randomUUID()}${serial} ${newId()}${json}`)
      }
      await redis.publish(channel, 'x')
    }
    const { status } = await say(await newChat(), { content: 'len=30' })
    t.equal(status, 201)
  },
)
