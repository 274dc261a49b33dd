import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import observability from '../../plugins/observability.js'
import ollama from '../../plugins/ollama.js'
import redis from '../../plugins/redis.js'
import { parseConfig } from '../../src/config.js'
import { startStandIn } from '../services/ollama-stand-in.js'

async function start(t: Test, environment: Record<string, string>) {
  const log = new PassThrough()
  const lines = text(log)
  const app = Fastify({ logger: { level: 'info', stream: log } })
  app.decorate('config', parseConfig(environment))
  app.register(observability)
  app.register(redis)
  app.register(ollama)
  await app.ready()
  t.teardown(() => app.close())
  return {
    app,
    async close() {
      await app.close()
      log.end()
      return lines
    },
  }
}

t.test('with no setting it is the embedded model, gone after close', async (t) => {
  const { app, close } = await start(t, {})
  t.equal((await app.ollama.catalogue.find()).name, 'eliza')
  t.match(app.ollama.url, /^http:\/\/127\.0\.0\.1:\d+$/)
  t.match(await close(), /embedded ELIZA.*set OLLAMA_API_URL/)
  await t.rejects(fetch(app.ollama.url))
})

t.test('with OLLAMA_API_URL it is that one, and its credentials are not told', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const url = `http://me:canary-of-ollama@127.0.0.1:${standIn.port}/`
  const { app, close } = await start(t, { OLLAMA_API_URL: url })
  t.equal((await app.ollama.catalogue.find()).name, 'stand-in:latest')
  t.equal(app.ollama.url, standIn.url)
  const log = await close()
  t.match(log, new RegExp(`Ollama at ${standIn.url}; unset OLLAMA_API_URL`))
  t.notMatch(log, /canary-of-ollama/)
})

t.test('OLLAMA_API_KEY is sent to Ollama as a bearer, and is not logged', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const key = 'canary-of-the-key'
  const { app, close } = await start(t, { OLLAMA_API_URL: standIn.url, OLLAMA_API_KEY: key })
  await app.ollama.client.chat(
    { model: 'stand-in', messages: [{ role: 'user', content: 'len=5' }] },
    () => {},
    new AbortController().signal,
  )
  t.ok(standIn.callsOf('/api/chat').length > 0)
  for (const { headers } of standIn.calls) t.equal(headers.authorization, `Bearer ${key}`)
  t.notMatch(await close(), key)
})

t.test(
  'a DEFAULT_MODEL that is not pulled is warned of at the start and named in the 404',
  async (t) => {
    const standIn = await startStandIn()
    t.teardown(() => standIn.close())
    const settings = { OLLAMA_API_URL: standIn.url, DEFAULT_MODEL: 'not-pulled:7b' }
    const { app, close } = await start(t, settings)
    const advice = /not-pulled:7b.*ollama pull not-pulled:7b.*DEFAULT_MODEL/
    await t.rejects(app.ollama.catalogue.find(), { code: 'MODEL_NOT_FOUND', message: advice })
    const log = await close()
    const warning = log.split('\n').find((line) => advice.test(line)) ?? '{}'
    t.equal(JSON.parse(warning).level, 40)
  },
)

t.test('an Ollama that is away does not fail the start, and may come later', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  await standIn.stop()
  const { app, close } = await start(t, { OLLAMA_API_URL: standIn.url })
  await t.rejects(app.ollama.catalogue.find(), { code: 'MODEL_UNREACHABLE' })
  await standIn.restart()
  t.equal((await app.ollama.catalogue.find()).name, 'stand-in:latest')
  t.match(await close(), /does not answer yet/)
})

t.test('a model server of another API is named', async (t) => {
  for (const [type, body] of [
    ['text/html', '<title>It works!</title>'],
    ['application/json', '{"object":"list","data":[{"id":"gpt"}]}'],
  ] as const) {
    const other = createServer((_, response) => response.setHeader('content-type', type).end(body))
    t.teardown(() => other.close())
    other.listen(0, '127.0.0.1')
    await once(other, 'listening')
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
    const { app, close } = await start(t, { OLLAMA_API_URL: url })
    await t.rejects(app.ollama.catalogue.find(), { code: 'MODEL_BAD_RESPONSE' }, type)
    t.match(await close(), `OLLAMA_API_URL: what answers at ${url} is not Ollama`, type)
  }
})
