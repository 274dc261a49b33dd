import { EventEmitter, once } from 'node:events'
import { get } from 'node:http'
import { Writable } from 'node:stream'
import Fastify, { LogController } from 'fastify'
import t from 'tap'
import observability from '../../plugins/observability.js'
import health from '../../routes/health/index.js'
import metrics from '../../routes/metrics/index.js'
import { models } from '../../schemas/common.js'
import { parseConfig } from '../../src/config.js'
import { loggerOptions } from '../../src/logging.js'
import { startApp } from '../services/app.js'
import { send } from '../services/raw.js'

/** An app with the plugin, its routes and services that answer as `services` says. */
async function start(t: { teardown(end: () => unknown): unknown }) {
  const lines: Record<string, unknown>[] = []
  const news = new EventEmitter()
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)))
      news.emit('line')
      done()
    },
  })
  const services: Record<'db' | 'redis' | 'ollama', () => Promise<unknown>> = {
    db: async () => {},
    redis: async () => {},
    ollama: async () => '0.11.4',
  }
  const app = Fastify({
    logger: { ...loggerOptions({ LOG_LEVEL: 'info' }), stream },
    logController: new LogController({
      disableRequestLogging: true,
      requestIdLogLabel: 'requestId',
    }),
  })
  app.decorate('config', parseConfig({ NODE_ENV: 'test' }))
  for (const model of models.values()) app.addSchema(model)
  app.decorate('store', { ping: () => services.db() } as never)
  app.decorate('cache', { ping: () => services.redis() } as never)
  app.decorate('ollama', { client: { version: () => services.ollama() } } as never)
  app.register(observability)
  app.register(health, { prefix: '/health' })
  app.register(metrics, { prefix: '/metrics' })
  app.get('/things/:id', async (request) => {
    Object.assign(request, { session: { userId: 'u1' } })
    return 'a thing'
  })
  app.get('/endless', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200).write('and so on')
  })
  t.teardown(() => app.close())
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const get = async (path: string) => {
    const response = await fetch(url + path)
    return { status: response.status, text: await response.text() }
  }
  return { app, services, lines, news, url, get }
}

t.test('readiness tells of each service by name', async (t) => {
  const { services, get } = await start(t)
  const away = () => Promise.reject(new Error('away'))
  const ready = async () => {
    const { status, text } = await get('/health/ready')
    return { http: status, ...JSON.parse(text) }
  }
  const ok = { status: 'ok' }
  const down = { status: 'down' }
  t.strictSame(await ready(), {
    http: 200,
    status: 'ok',
    services: { db: ok, redis: ok, ollama: ok },
  })
  services.redis = away
  services.ollama = () => {
    throw new Error('thrown at once')
  }
  t.strictSame(await ready(), {
    http: 200,
    status: 'degraded',
    services: { db: ok, redis: down, ollama: down },
  })
  services.db = () => new Promise(() => {})
  t.match(await ready(), { http: 503, status: 'down', services: { db: down } })
})

t.test('probes that come together ask each service once', async (t) => {
  const { app, services, get } = await start(t)
  let asked = 0
  let answer = () => {}
  services.db = () => {
    asked += 1
    return new Promise<void>((resolve) => {
      answer = resolve
    })
  }
  let arrived = 0
  const allArrived = new Promise<void>((resolve) => {
    app.server.on('request', () => {
      arrived += 1
      if (arrived === 3) setImmediate(resolve)
    })
  })
  const answers = Promise.all([1, 2, 3].map(() => get('/health/ready')))
  await allArrived
  answer()
  await answers
  t.equal(asked, 1)
})

t.test('while it goes down it is alive but not ready', async (t) => {
  const { app, get } = await start(t)
  app.lifecycle.closing = true
  const { status, text } = await get('/health/ready')
  t.equal(status, 503)
  t.match(JSON.parse(text), { status: 'shutting-down' })
  t.equal((await get('/health/live')).status, 200)
})

t.test('closing says so before anything is closed', async (t) => {
  const { app } = await start(t)
  let closing = false
  app.server.once('close', () => {
    closing = app.lifecycle.closing
  })
  await app.close()
  t.ok(closing)
})

t.test('one line for each finished request, none for probes', async (t) => {
  const { app, lines, get } = await start(t)
  lines.length = 0
  await get('/things/1234?token=canary')
  await get('/nowhere/canary')
  await get('/health/live')
  await get('/health/ready')
  await get('/metrics')
  await app.close()
  t.match(lines, [
    {
      level: 30,
      msg: 'request',
      method: 'GET',
      route: '/things/:id',
      status: 200,
      ms: Number,
      requestId: String,
      userId: 'u1',
    },
    { method: 'GET', route: 'unmatched', status: 404 },
  ])
  t.equal(lines.length, 2)
  t.notMatch(JSON.stringify(lines), 'canary')
})

t.test('a request whose client goes away has its line too', async (t) => {
  const { lines, news, url } = await start(t)
  const request = get(`${url}/endless`)
  const [response] = await once(request, 'response')
  t.equal(response.statusCode, 200)
  lines.length = 0
  request.destroy()
  await once(news, 'line', { signal: AbortSignal.timeout(5000) })
  t.match(lines, [{ msg: 'request', route: '/endless', status: 200, aborted: true }])
})

t.test('metrics count requests by route, and show the process', async (t) => {
  const { get } = await start(t)
  await get('/things/1')
  await get('/things/2')
  await get('/nowhere/1')
  await get('/nowhere/2')
  const { text } = await get('/metrics')
  const count = (route: string, status: number) =>
    `http_request_duration_seconds_count{method="GET",route="${route}",status="${status}"} 2`
  t.match(text, count('/things/:id', 200))
  t.match(text, count('unmatched', 404))
  t.match(text, 'nodejs_eventloop_lag_p99_seconds')
  t.match(text, 'process_resident_memory_bytes')
})

t.test('a request’s trace id is on each of its log lines, when it is valid', async (t) => {
  const lines: Record<string, unknown>[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)))
      done()
    },
  })
  const logger = { ...loggerOptions({ LOG_LEVEL: 'debug' }), stream }
  const { app, url } = await startApp(t, {}, undefined, { logger })
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  lines.length = 0
  for (const traceparent of [`00-${traceId}-b7ad6b7169203331-01`, '00-canary-01']) {
    for (const path of ['/api/ai/chats', '/nowhere']) {
      await (await fetch(url + path, { headers: { traceparent } })).arrayBuffer()
    }
  }
  await app.close()
  const found = lines.filter(({ requestId }) => requestId).map(({ msg, traceId }) => [msg, traceId])
  const each = (id: string | undefined) => [
    ['request refused', id],
    ['request', id],
    ['request refused', id],
    ['request', id],
  ]
  t.strictSame(found, [...each(traceId), ...each(undefined)])
  t.notMatch(JSON.stringify(lines), 'canary')
})

t.test('metrics tell which service is away', async (t) => {
  const { services, get } = await start(t)
  services.redis = () => Promise.reject(new Error('away'))
  const { text } = await get('/metrics')
  t.match(text, 'chat_service_up{service="db"} 1')
  t.match(text, 'chat_service_up{service="redis"} 0')
})

t.test('two apps in one process count apart', async (t) => {
  const one = await start(t)
  const other = await start(t)
  await one.get('/things/1')
  t.match((await one.get('/metrics')).text, 'route="/things/:id"')
  t.notMatch((await other.get('/metrics')).text, 'route="/things/:id"')
})

t.test('with METRICS_TOKEN set, metrics want that bearer', async (t) => {
  const { url } = await startApp(t, { METRICS_TOKEN: 'for-prometheus-alone' })
  for (const authorization of [undefined, 'Bearer for-prometheus', 'Basic for-prometheus-alone']) {
    const headers = { ...(authorization !== undefined && { authorization }) }
    const { status, headers: answered, text } = await send(url, 'GET', '/metrics', headers)
    t.equal(status, 401, String(authorization))
    t.equal(answered['www-authenticate'], 'Bearer')
    t.match(JSON.parse(text), { code: 'UNAUTHORIZED', message: /METRICS_TOKEN/ })
  }
  const right = { authorization: 'Bearer for-prometheus-alone' }
  const { status, text } = await send(url, 'GET', '/metrics', right)
  t.equal(status, 200)
  t.match(text, 'process_resident_memory_bytes')
})

t.test('without METRICS_TOKEN, production serves metrics to its own machine alone', async (t) => {
  const production = { NODE_ENV: 'production', JWT_SECRET: 'q7Xw2LzR9vKc4TnB8mHs1YfD6gJp3EaU' }
  const { app, url } = await startApp(t, production)
  t.equal((await send(url, 'GET', '/metrics')).status, 200)
  // A proxy on this machine passes on what comes from elsewhere, whether it is trusted or not.
  for (const [name, value] of [
    ['x-forwarded-for', '127.0.0.1'],
    ['forwarded', 'for=127.0.0.1'],
  ] as const) {
    const { status, text } = await send(url, 'GET', '/metrics', { [name]: value })
    t.equal(status, 403)
    t.match(JSON.parse(text), { code: 'METRICS_REFUSED', message: /METRICS_TOKEN/ })
  }
  const elsewhere = { method: 'GET', url: '/metrics', remoteAddress: '192.0.2.1' } as const
  t.equal((await app.inject(elsewhere)).statusCode, 403)
  t.equal((await app.inject({ ...elsewhere, remoteAddress: '::ffff:127.0.0.1' })).statusCode, 200)

  const development = await startApp(t, { NODE_ENV: 'development' })
  t.equal((await development.app.inject(elsewhere)).statusCode, 200, 'in development to all')
})
