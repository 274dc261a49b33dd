import { get } from 'node:http'
import { text } from 'node:stream/consumers'
import Fastify from 'fastify'
import t from 'tap'
import answers from '../../plugins/answers.js'

/**
 * An app that answers `/good` and `/bad` once three requests are there, all in one turn of the
 * loop; what is bad throws as it is written. `order` tells what was done.
 */
async function start(t: { teardown(end: () => unknown): unknown }) {
  const order: string[] = []
  const waiting: (() => void)[] = []
  const app = Fastify({ forceCloseConnections: true })
  await app.register(answers)
  app.get('/:kind', async (request, reply) => {
    reply.raw.once('finish', () => order.push('written'))
    reply.raw.once('close', () => order.push('closed'))
    await new Promise<void>((resolve) => {
      waiting.push(resolve)
      if (waiting.length === 3) for (const go of waiting) go()
    })
    reply.type('text/plain')
    // Fastify throws at what is no text as it is about to write it.
    return request.url === '/bad' ? 1 : request.url
  })
  t.teardown(() => app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })

  const ask = (path: string) =>
    new Promise<string>((resolve, reject) => {
      get(url + path, { agent: false }, (response) => {
        text(response).then(resolve, reject)
      }).on('error', reject)
    })
  return { app, ask, order }
}

t.test('what is ready in one turn is written in one go', async (t) => {
  const { ask, order } = await start(t)
  t.strictSame(await Promise.all([ask('/good'), ask('/good'), ask('/good')]), [
    '/good',
    '/good',
    '/good',
  ])
  t.strictSame(order.slice(0, 3), ['written', 'written', 'written'])
})

t.test('one that cannot be written keeps no other from its client', async (t) => {
  const { app, ask } = await start(t)
  const thrown = new Promise((resolve) => process.setUncaughtExceptionCaptureCallback(resolve))
  t.teardown(() => process.setUncaughtExceptionCaptureCallback(null))
  const unanswered = t.rejects(ask('/bad'), { code: 'ECONNRESET' })
  const good = [ask('/good'), ask('/good')]
  t.match(await thrown, { code: 'FST_ERR_REP_INVALID_PAYLOAD_TYPE' })
  t.strictSame(await Promise.all(good), ['/good', '/good'])
  await app.close()
  await unanswered
})
