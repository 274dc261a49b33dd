import t from 'tap'
import { clientNetworks, createTrust } from '../../src/auth/client-network.js'
import { startApp } from '../services/app.js'
import { send } from '../services/raw.js'

const frontend = 'https://chat.example.org'
const second = 'http://localhost:5173'
const json = { 'content-type': 'application/json' }

t.test('origins', async (t) => {
  const { url } = await startApp(t, { FRONTEND_URL: `${frontend}, ${second}/` })
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
      const headers = { ...(origin !== undefined && { origin }) }
      const allowOrigin = isFrontend ? origin : undefined

      const read = await send(url, 'GET', '/health/live', headers)
      t.equal(read.status, 200, 'may ask')
      t.equal(read.headers['access-control-allow-origin'], allowOrigin, 'may read the answer')
      const credentials = isFrontend ? 'true' : undefined
      t.equal(read.headers['access-control-allow-credentials'], credentials)
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
      'Traceparent',
      'Tracestate',
    ])
      t.match(allowed, name)
    for (const method of ['GET', 'POST', 'PATCH', 'DELETE'])
      t.match(headers['access-control-allow-methods'], method)
    for (const name of ['Location', 'Retry-After', 'X-Request-Id'])
      t.match(headers['access-control-expose-headers'], name)
    t.equal(headers['access-control-allow-credentials'], 'true')
  })

  t.test('an error bears the headers that let a frontend read it', async (t) => {
    const { status, headers } = await send(url, 'GET', '/nothing', { origin: frontend })
    t.equal(status, 404)
    t.equal(headers['access-control-allow-origin'], frontend)
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

t.test(
  'an address counts in its network, and an IPv6 site in its /48 with ten times the limit',
  async (t) => {
    const rows: Record<string, string[]> = {
      '192.0.2.7': ['192.0.2.7'],
      '::ffff:192.0.2.7': ['192.0.2.7'],
      '2001:db8:1:2:3:4:5:6': ['2001:db8:1:2::/64', '2001:db8:1::/48'],
      '2001:DB8:1:2::9': ['2001:db8:1:2::/64', '2001:db8:1::/48'],
      '2001:db8::9': ['2001:db8:0:0::/64', '2001:db8:0::/48'],
      '::1': ['0:0:0:0::/64', '0:0:0::/48'],
      'fe80::1%eth0': ['fe80:0:0:0::/64', 'fe80:0:0::/48'],
    }
    for (const [address, networks] of Object.entries(rows)) {
      const counted = clientNetworks(address)
      t.strictSame(
        counted.map(({ network }) => network),
        networks,
        address,
      )
      t.strictSame(
        counted.map(({ factor }) => factor),
        [1, 10].slice(0, networks.length),
      )
    }
    for (const junk of [
      '',
      'x'.repeat(6000),
      '192.0.2.7, 192.0.2.8',
      '1.2.3',
      'localhost',
      '::1::',
    ]) {
      t.strictSame(clientNetworks(junk), [], `${junk.slice(0, 20)} is no key`)
    }
  },
)

t.test('a proxy is trusted by its place or its network', async (t) => {
  const rows: [setting: false | number | string[], trusted: string[], others: string[]][] = [
    [false, [], ['127.0.0.1', '']],
    [
      ['10.0.0.0/8', 'fd00::/8', '192.0.2.1'],
      ['10.9.9.9', '::ffff:10.1.1.1', 'fd12::1', '192.0.2.1'],
      ['11.0.0.1', '192.0.2.2', '::1', 'junk', ''],
    ],
  ]
  for (const [setting, trusted, others] of rows) {
    const trust = createTrust(setting)
    for (const address of trusted) t.equal(trust(address, 0), true, `${setting}: ${address}`)
    for (const address of others) t.equal(trust(address, 0), false, `${setting}: ${address}`)
  }
  const hops = createTrust(2)
  t.strictSame(
    [0, 1, 2].map((hop) => hops('192.0.2.1', hop)),
    [true, true, false],
  )
})

/** How many of `tries` logins from one place were refused for their number. */
async function refusedOf(url: string, tries: number, forwardedFor: (n: number) => string) {
  let refused = 0
  for (let n = 0; n < tries; n++) {
    const headers = { ...json, 'x-forwarded-for': forwardedFor(n) }
    const { status } = await send(url, 'POST', '/api/auth/login', headers, '{}')
    if (status === 429) refused++
  }
  return refused
}

// A counter of the test's own: Redis would hold what others counted for these addresses.
const sixAMinute = { RATE_LIMIT_CREDENTIALS_PER_MINUTE: '6', REDIS_URL: '' }

t.test(
  'behind one proxy a client is what the proxy says, and what it wrote before is not heard',
  async (t) => {
    const { url } = await startApp(t, { ...sixAMinute, TRUST_PROXY: '1' })
    const spoofed = (client: string) => (n: number) => `203.0.113.${n}, ${client}`
    t.equal(await refusedOf(url, 8, spoofed('192.0.2.1')), 2, 'one client')
    t.equal(await refusedOf(url, 6, spoofed('192.0.2.2')), 0, 'another')
  },
)

t.test('of a proxy whose network is not trusted X-Forwarded-For is not heard', async (t) => {
  for (const TRUST_PROXY of ['false', '10.0.0.0/8, fd00::/8']) {
    const { url } = await startApp(t, { ...sixAMinute, TRUST_PROXY })
    t.equal(await refusedOf(url, 8, (n) => `192.0.2.${n}`), 2, TRUST_PROXY)
  }
})

t.test('a forwarded text that is no address counts for the connection’s own', async (t) => {
  const { url } = await startApp(t, { ...sixAMinute, TRUST_PROXY: '127.0.0.0/8' })
  t.equal(await refusedOf(url, 8, (n) => `${n}${'x'.repeat(6000)}`), 2)
})

t.test('an IPv6 site is limited as a whole at ten times the limit of each /64', async (t) => {
  const { url } = await startApp(t, { ...sixAMinute, TRUST_PROXY: '1' })
  t.equal(await refusedOf(url, 8, (n) => `2001:db8:1:1::${n}`), 2, 'one /64')
  t.equal(await refusedOf(url, 60, (n) => `2001:db8:2:${n % 20}::1`), 0, 'a site at its limit')
  t.equal(await refusedOf(url, 3, () => '2001:db8:2:ffff::1'), 3, 'another /64 of it')
  t.equal(await refusedOf(url, 3, () => '2001:db8:3:1::1'), 0, 'another site')
})

const secret = { JWT_SECRET: 'q7Xw2LzR9vKc4TnB8mHs1YfD6gJp3EaU' }

/** Whether a page of `origin` may write to a server that it calls `host`, and open a socket to it. */
async function lettingIn(url: string, origin: string, host: string, headers = {}) {
  const all = { ...headers, origin, host }
  const rest = await send(url, 'POST', '/api/auth/login', { ...json, ...all }, '{}')
  const polling = await send(url, 'GET', '/socket.io/?EIO=4&transport=polling', all)
  const upgrade = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  }
  const socket = await send(url, 'GET', '/socket.io/?EIO=4&transport=websocket', {
    ...all,
    ...upgrade,
  })
  const refusals = [rest, polling, socket].filter(({ text }) => text.includes('ORIGIN_REFUSED'))
  return { isIn: [rest.status, polling.status, socket.status].join() === '400,200,101', refusals }
}

t.test(
  'the server’s own pages are those of PUBLIC_URL, an IP address, and localhost in development',
  async (t) => {
    const settings = {
      PUBLIC_URL: 'https://chat.example.org/app',
      TRUST_PROXY: '127.0.0.1',
      ...secret,
    }
    const https = { 'x-forwarded-proto': 'https' }
    for (const NODE_ENV of ['development', 'production']) {
      const { url } = await startApp(t, { ...settings, NODE_ENV })
      const isDevelopment = NODE_ENV === 'development'
      const rows: [origin: string, host: string, headers: Record<string, string>, isIn: boolean][] =
        [
          ['https://chat.example.org', 'chat.example.org', https, true],
          ['https://chat.example.org', '10.0.0.1:3000', {}, true],
          ['http://chat.example.org', 'chat.example.org', {}, false],
          ['https://chat.example.org:8443', 'chat.example.org:8443', https, false],
          ['http://evil.example', 'evil.example', {}, false],
          ['https://evil.example', 'evil.example', https, false],
          ['http://127.0.0.1.evil.example', '127.0.0.1.evil.example', {}, false],
          ['http://192.0.2.1:3000', '192.0.2.1:3000', {}, true],
          ['http://192.0.2.1', '192.0.2.1:80', {}, true],
          ['http://192.0.2.1:3001', '192.0.2.1:3000', {}, false],
          ['http://192.0.2.1', '192.0.2.2', {}, false],
          ['https://192.0.2.1', '192.0.2.1', {}, false],
          ['https://192.0.2.1', '192.0.2.1', https, true],
          ['http://192.0.2.1', '192.0.2.1', https, false],
          ['http://[2001:db8::1]:3000', '[2001:db8::1]:3000', {}, true],
          ['http://localhost:3000', 'localhost:3000', {}, isDevelopment],
          ['http://chat.localhost:3000', 'chat.localhost:3000', {}, isDevelopment],
          ['http://localhost:3000', 'localhost:3001', {}, false],
          ['http://localhost.evil.example', 'localhost.evil.example', {}, false],
          ['http://b.example', 'b.example/x', {}, false],
          ['http://x@b.example', 'x@b.example', {}, false],
          ['null', 'null', {}, false],
        ]
      for (const [origin, host, headers, isIn] of rows) {
        const answer = await lettingIn(url, origin, host, headers)
        t.equal(answer.isIn, isIn, `${NODE_ENV}: ${origin} at ${host}`)
        t.equal(answer.refusals.length, isIn ? 0 : 3)
        for (const { text } of answer.refusals) t.match(text, /PUBLIC_URL.*FRONTEND_URL/)
      }
    }
  },
)

t.test(
  'X-Forwarded-Proto and X-Forwarded-Host make no origin of a stranger’s the server’s own',
  async (t) => {
    const { url } = await startApp(t)
    const forwarded = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.example' }
    t.notOk((await lettingIn(url, 'https://192.0.2.1', '192.0.2.1', forwarded)).isIn)
    t.notOk((await lettingIn(url, 'https://evil.example', '192.0.2.1', forwarded)).isIn)
    const trusting = await startApp(t, { TRUST_PROXY: '1' })
    t.notOk((await lettingIn(trusting.url, 'https://evil.example', '192.0.2.1', forwarded)).isIn)
  },
)

t.test('pages of known origins may poll with credentials', async (t) => {
  const { url } = await startApp(t, {
    FRONTEND_URL: frontend,
    PUBLIC_URL: 'https://own.example.org',
  })
  for (const origin of [frontend, 'https://own.example.org']) {
    const { status, headers } = await send(url, 'GET', '/socket.io/?EIO=4&transport=polling', {
      origin,
    })
    t.equal(status, 200)
    t.equal(headers['access-control-allow-origin'], origin)
    t.equal(headers['access-control-allow-credentials'], 'true')
  }
})

t.test('what has tokens or chats in it is kept by no cache', async (t) => {
  const { url } = await startApp(t)
  const credentials = { username: 'ada', email: 'ada@example.org', password: 'a correct horse' }
  const body = JSON.stringify(credentials)
  const registered = await send(url, 'POST', '/api/auth/register', json, body)
  t.equal(registered.status, 201)
  t.equal(registered.headers['cache-control'], 'no-store')
  const { token } = JSON.parse(registered.text)
  const bearer = { authorization: `Bearer ${token}` }
  const created = await send(url, 'POST', '/api/ai/chats', { ...bearer, ...json }, '{}')
  const chat = `/api/ai/chats/${JSON.parse(created.text).id}`
  const message = await send(
    url,
    'POST',
    `${chat}/messages`,
    { ...bearer, ...json },
    '{"content":"x"}',
  )
  t.equal(message.status, 201)
  const stream = `${chat}/messages/${JSON.parse(message.text).reply.id}/stream`
  // Routes are found by decoded paths.
  const paths = ['/api/ai/chats', chat, stream, '/api/auth/profile', '/%61pi/ai/chats']
  for (const path of paths) {
    const { status, headers } = await send(url, 'GET', path, bearer)
    t.equal(status, 200, path)
    t.equal(headers['cache-control'], 'no-store', path)
  }
  const { headers } = await send(url, 'GET', '/docs/static/swagger-ui.css')
  t.notMatch(headers['cache-control'], /no-store/, 'files of the documentation may be kept')
})
