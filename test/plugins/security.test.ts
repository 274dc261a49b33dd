import t from 'tap'
import { clientNetwork } from '../../src/auth/client-network.js'
import { startApp } from '../services/app.js'
import { send } from '../services/raw.js'

const frontend = 'https://chat.example.org'
const second = 'http://localhost:5173'
const json = { 'content-type': 'application/json' }

t.test('origins', async (t) => {
  const { app, url } = await startApp(t, { FRONTEND_URL: `${frontend}, ${second}/` })
  const host = new URL(url).host

  const rows: [origin: string | undefined, isAllowed: boolean, isFrontend: boolean][] = [
    [undefined, true, false],
    [frontend, true, true],
    [second, true, true],
    [url, true, false],
    ['https://evil.example', false, false],
    ['null', false, false],
    ['', false, false],
    ['*', false, false],
    [`${frontend}.evil.example`, false, false],
    [`${frontend}:8443`, false, false],
    ['http://chat.example.org', false, false],
    ['https://CHAT.example.org', false, false],
    [`${frontend}/`, false, false],
    [`${url}1`, false, false],
    [`${url}/path`, false, false],
    ['http://127.0.0.1', false, false],
    [`file://${host}`, false, false],
    [`https://user@${host}`, false, false],
  ]
  for (const [origin, isAllowed, isFrontend] of rows) {
    t.test(`from ${JSON.stringify(origin)}`, async (t) => {
      t.equal(app.originAllowed(origin, host), isAllowed)
      const headers = { ...(origin !== undefined && { origin }) }
      const allowOrigin = isFrontend ? origin : undefined

      const read = await send(url, 'GET', '/health/live', headers)
      t.equal(read.status, 200, 'may ask')
      t.equal(read.headers['access-control-allow-origin'], allowOrigin, 'may read the answer')
      t.match(read.headers.vary, /origin/i)

      const write = await send(url, 'POST', '/api/auth/login', { ...headers, ...json }, '{}')
      t.equal(write.status, isAllowed ? 400 : 403, 'may write')
      t.equal(write.headers['access-control-allow-origin'], allowOrigin)
      if (!isAllowed) t.match(write.text, '"code":"ORIGIN_REFUSED"')

      const preflight = await send(url, 'OPTIONS', '/api/auth/login', {
        ...headers,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'x-anything',
      })
      t.equal(preflight.status, isFrontend ? 204 : isAllowed ? 405 : 403, 'preflight')
      t.equal(preflight.headers['access-control-allow-origin'], allowOrigin)
      const allowed = String(preflight.headers['access-control-allow-headers'] ?? '')
      t.notMatch(allowed, /x-anything/, 'nothing is reflected')
    })
  }

  t.test('a preflight names what a client needs', async (t) => {
    const { headers } = await send(url, 'OPTIONS', '/api/ai/chats', {
      origin: frontend,
      'access-control-request-method': 'POST',
    })
    const allowed = headers['access-control-allow-headers']
    for (const name of [
      'Authorization',
      'Content-Type',
      'Idempotency-Key',
      'Last-Event-ID',
      'Prefer',
    ])
      t.match(allowed, name)
    for (const method of ['GET', 'POST', 'PATCH', 'DELETE'])
      t.match(headers['access-control-allow-methods'], method)
    for (const name of ['Location', 'Retry-After', 'X-Request-Id'])
      t.match(headers['access-control-expose-headers'], name)
    t.notOk(headers['access-control-allow-credentials'])
  })

  t.test('an error bears the headers that let a frontend read it', async (t) => {
    const { status, headers } = await send(url, 'GET', '/nothing', { origin: frontend })
    t.equal(status, 404)
    t.equal(headers['access-control-allow-origin'], frontend)
  })

  t.test('its own origin is told by Host, whatever that says', async (t) => {
    t.equal(app.originAllowed('https://a.example', 'a.example'), true)
    t.equal(app.originAllowed('https://a.example', 'a.example:443'), true)
    t.equal(app.originAllowed('https://a.example', 'a.example:80'), false)
    t.equal(app.originAllowed('http://a.example:8080', 'A.example:8080'), true)
    for (const host of [undefined, '', '/', 'a b', '[', 'a.example/x', 'x@a.example', ':']) {
      t.equal(app.originAllowed('https://b.example', host), false, String(host))
    }
  })
})

t.test('every answer', async (t) => {
  const { url } = await startApp(t)
  const asked = [
    ['GET', '/health/live', 200],
    ['GET', '/openapi.json', 200],
    ['GET', '/api/auth/profile', 401],
    ['GET', '/nothing', 404],
    ['DELETE', '/api/auth/login', 405],
    ['GET', '/%zz', 400],
  ] as const
  const ids = new Set<unknown>()
  for (const [method, path, status] of asked) {
    const answer = await send(url, method, path, { 'x-request-id': 'mine' })
    t.equal(answer.status, status, path)
    t.match(answer.headers['x-request-id'], /^[0-9a-f-]{36}$/, path)
    ids.add(answer.headers['x-request-id'])
    if (path === '/%zz') continue
    t.equal(answer.headers['x-content-type-options'], 'nosniff', path)
    t.match(answer.headers['content-security-policy'], "default-src 'self'", path)
    t.match(answer.headers['content-security-policy'], "frame-ancestors 'none'", path)
    t.notOk(answer.headers['x-powered-by'])
  }
  t.equal(ids.size, asked.length, 'has an id of its own')
})

t.test('credentials may be tried so many times a minute from one address', async (t) => {
  // A counter of this test's own: Redis would hold what others counted for this address.
  const settings = { RATE_LIMIT_CREDENTIALS_PER_MINUTE: '6', REDIS_URL: '' }
  const { url } = await startApp(t, settings)
  const tried: number[] = []
  for (const path of ['register', 'login', 'refresh', 'register', 'login', 'refresh']) {
    tried.push((await send(url, 'POST', `/api/auth/${path}`, json, '{}')).status)
  }
  t.strictSame(tried, [400, 400, 400, 400, 400, 400])
  for (const path of ['register', 'login', 'refresh']) {
    const { status, headers, text } = await send(url, 'POST', `/api/auth/${path}`, json, '{}')
    t.equal(status, 429)
    t.match(text, '"code":"RATE_LIMITED"')
    const seconds = Number(headers['retry-after'])
    t.ok(seconds >= 1 && seconds <= 60, `Retry-After: ${seconds}`)
  }
  t.equal((await send(url, 'GET', '/api/auth/profile')).status, 401, 'no other route is limited')
})

t.test('an address counts as its network', async (t) => {
  const rows = {
    '192.0.2.7': '192.0.2.7',
    '::ffff:192.0.2.7': '192.0.2.7',
    '2001:db8:1:2:3:4:5:6': '2001:db8:1:2::/64',
    '2001:DB8:1:2::9': '2001:db8:1:2::/64',
    '2001:db8::9': '2001:db8:0:0::/64',
    '::1': '0:0:0:0::/64',
    'fe80::1%eth0': 'fe80:0:0:0::/64',
  }
  for (const [address, network] of Object.entries(rows)) {
    t.equal(clientNetwork(address), network, address)
  }
})
