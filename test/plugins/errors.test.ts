import { Writable } from 'node:stream'
import { Type } from '@sinclair/typebox'
import t from 'tap'
import type { ApiError } from '../../schemas/common.js'
import { parseConfig } from '../../src/config.js'
import { AppError } from '../../src/errors.js'
import { loggerOptions } from '../../src/logging.js'
import { startApp } from '../services/app.js'
import { send, sendBytes } from '../services/raw.js'

const lines: string[] = []
const stream = new Writable({
  write(chunk, _encoding, done) {
    lines.push(String(chunk))
    done()
  },
})
const { url } = await startApp(
  t,
  {},
  (app) => {
    // After the plugins: a route takes the error handler that is there when it is declared.
    app.after(() => {
      app.get('/boom', async () => {
        throw new Error('canary-detail')
      })
      app.get('/throws-a-string', async () => {
        throw 'canary-string'
      })
      app.get('/busy', async () => {
        throw new AppError('STORE_UNAVAILABLE', { retryAfter: 7, cause: new Error('canary-cause') })
      })
      app.get('/ending', async () => {
        throw new AppError('SHUTTING_DOWN', { retryAfter: 1 })
      })
      app.get('/not-text', async (_request, reply) => {
        reply.type('text/plain')
        return 1
      })
      const schema = { response: { 200: Type.Object({ wanted: Type.String() }) } }
      app.get('/field-missing', { schema }, async () => ({}) as { wanted: string })
      app.get('/big-number', async () => ({ n: 1n }))
      app.get('/circle', async () => {
        const circle: Record<string, unknown> = {}
        circle.self = circle
        return circle
      })
      app.get('/failed', async () => {
        throw new AppError('MODEL_CUT', { replyId: 'a'.repeat(24) })
      })
    })
  },
  { logger: { ...loggerOptions(parseConfig({ LOG_LEVEL: 'trace' })), stream } },
)
const ask = async (method: string, path: string) => {
  const { status, headers, text } = await send(url, method, path)
  return { status, headers, text, body: JSON.parse(text || '{}') as ApiError }
}

t.test('every error has one shape', async (t) => {
  for (const path of [
    '/nothing',
    '/boom',
    '/busy',
    '/api/auth/profile',
    '/%zz',
    '/api/auth/login',
  ]) {
    const { status, headers, body } = await ask('GET', path)
    t.match(headers['content-type'], /^application\/json/, path)
    t.match(body, { statusCode: status, code: /^[A-Z_]+$/, error: /^[A-Z]/, message: /^\S/ }, path)
    t.equal(body.requestId, headers['x-request-id'], path)
    t.strictSame(
      Object.keys(body).sort(),
      ['code', 'error', 'message', 'requestId', 'retryable', 'statusCode'],
      path,
    )
  }
})

t.test('what was not foreseen is 500 to the client, and whole in the log', async (t) => {
  for (const [path, canary] of [
    ['/boom', 'canary-detail'],
    ['/throws-a-string', 'canary-string'],
  ] as const) {
    const { status, text, body } = await ask('GET', path)
    t.equal(status, 500)
    t.equal(body.code, 'INTERNAL')
    t.notMatch(text, /canary/)
    const logged = lines.filter((line) => line.includes(body.requestId))
    const line = logged.find((candidate) => candidate.includes('"level":50'))
    t.match(line, canary, path)
  }
})

t.test('an answer that cannot be serialised is 500, and the server lives', async (t) => {
  for (const path of ['/not-text', '/field-missing', '/big-number', '/circle']) {
    for (const method of ['GET', 'HEAD']) {
      const { status, body } = await ask(method, path)
      t.equal(status, 500, `${method} ${path}`)
      if (method === 'GET') t.equal(body.code, 'INTERNAL', path)
    }
  }
  t.equal((await ask('GET', '/health/live')).status, 200, 'the server lives')
})

t.test('an error of ours is answered as it is', async (t) => {
  const busy = await ask('GET', '/busy')
  t.match(busy, { status: 503, body: { code: 'STORE_UNAVAILABLE', retryable: true } })
  t.equal(busy.headers['retry-after'], '7')
  t.notMatch(busy.text, /canary/)
  t.ok(lines.some((line) => line.includes('canary-cause')))
  const ending = await ask('GET', '/ending')
  t.match(ending, { status: 503, body: { code: 'SHUTTING_DOWN' } })
  const said = lines.filter((line) => line.includes(ending.body.requestId))
  t.ok(
    said.some((line) => line.includes('"level":40')),
    'a warning',
  )
  t.notOk(
    said.some((line) => line.includes('"level":50')),
    'and no error',
  )
  const failed = await ask('GET', '/failed')
  t.match(failed, { status: 502, body: { code: 'MODEL_CUT', replyId: 'a'.repeat(24) } })
})

t.test('a known path with another method is 405 with Allow', async (t) => {
  const rows = [
    ['GET', '/api/auth/login', 'POST'],
    ['PUT', '/api/ai/chats', 'GET, HEAD, POST'],
    ['POST', `/api/ai/chats/${'a'.repeat(24)}?x=1`, 'GET, HEAD, PATCH, DELETE'],
    ['OPTIONS', '/api/auth/profile', 'GET, HEAD, DELETE'],
    ['HEAD', '/api/auth/login', 'POST'],
    ['TRACE', '/api/auth/profile', 'GET, HEAD, DELETE'],
    ['DELETE', '/health/live', 'GET, HEAD'],
  ] as const
  for (const [method, path, allow] of rows) {
    const { status, headers, body } = await ask(method, path)
    t.equal(status, 405, `${method} ${path}`)
    t.equal(headers.allow, allow, `${method} ${path}`)
    if (method !== 'HEAD') t.match(body, { code: 'METHOD_NOT_ALLOWED', retryable: false })
  }
})

t.test('an unknown path is 404, whatever the body', async (t) => {
  for (const path of [
    '/nothing',
    '/api',
    '/api/auth',
    '/api/ai/chats/a/b/c',
    `/${'a'.repeat(3000)}`,
  ]) {
    const body = { code: 'NOT_FOUND', retryable: false }
    t.match(await ask('GET', path), { status: 404, body }, path.slice(0, 30))
  }
  const broken = await send(url, 'POST', '/nothing', { 'content-type': 'application/json' }, '{')
  t.equal(broken.status, 404)
  const known = await send(url, 'PUT', '/api/auth/login', { 'content-type': 'text/odd' }, '{')
  t.equal(known.status, 405)
})

t.test('what comes before any route has the same shape', async (t) => {
  const rows = [
    ['GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 400, 'BAD_URL'],
    ['GET /%c0%af HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 400, 'BAD_URL'],
    [`GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431, 'HEADERS_TOO_LARGE'],
    ['\x16\x03\x01 this is TLS\r\n\r\n', 400, 'BAD_REQUEST'],
    ['GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n', 400, 'BAD_REQUEST'],
    ['POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 400, 'BAD_REQUEST'],
  ] as const
  for (const [bytes, status, code] of rows) {
    const answer = await sendBytes(url, bytes)
    const [head = '', body = ''] = answer.split('\r\n\r\n')
    t.match(head, new RegExp(`^HTTP/1.1 ${status} `), code)
    t.match(head, /\r\nx-request-id: [0-9a-f-]{36}/i, code)
    t.match(JSON.parse(body), {
      statusCode: status,
      code,
      requestId: /^[0-9a-f-]{36}$/,
      retryable: false,
    })
  }
  t.equal((await ask('GET', '/health/live')).status, 200, 'the process lives')
})

t.test('nothing of a request is reflected in a header', async (t) => {
  const canary = 'canary-value'
  const { headers } = await send(url, 'POST', `/api/auth/login?${canary}`, {
    'x-request-id': canary,
    'content-type': `application/${canary}`,
    origin: `https://${canary}.example`,
    authorization: canary,
    accept: canary,
    'access-control-request-headers': canary,
  })
  t.notMatch(JSON.stringify(headers), canary)
})
