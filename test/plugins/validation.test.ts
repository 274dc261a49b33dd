import t from 'tap'
import { ChatInput } from '../../schemas/chats.js'
import type { ApiError } from '../../schemas/common.js'
import { ChatMessage, JoinChat } from '../../schemas/events.js'
import { register, startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { send } from '../services/raw.js'

interface RouteRow {
  method: string
  path: string
  operationId: string | undefined
  hasBody: boolean
  isPublic: boolean
}

const id = 'a'.repeat(24)
const routes: RouteRow[] = []
const { app, url } = await startApp(t, {}, (app) => {
  app.addHook('onRoute', ({ method, url, schema }) => {
    for (const one of [method].flat()) {
      routes.push({
        method: one,
        path: url.replace(/:\w+/g, id),
        operationId: schema?.operationId,
        hasBody: schema?.body !== undefined,
        isPublic: schema?.security?.length === 0,
      })
    }
  })
})
const { headers: authorization } = await register(url)
const json = { ...authorization, 'content-type': 'application/json' }

const post = async (
  path: string,
  body?: string | Uint8Array,
  headers: Record<string, string> = json,
) => {
  const { status, text } = await send(url, 'POST', path, headers, body)
  return { status, body: JSON.parse(text || '{}') as ApiError }
}
const createChat = (body: unknown) => post('/api/ai/chats', JSON.stringify(body))

t.test('a body is taken as it is: nothing is converted, nothing dropped', async (t) => {
  const { body: made, status } = await createChat({ title: 'x', options: { temperature: 0.5 } })
  t.equal(status, 201)
  t.match(made, { title: 'x', options: { temperature: 0.5 } })
  const noObject = /^`body` must be an object with `title`, `model`, `system`, `options`\.$/
  const rows: [unknown, RegExp][] = [
    [{ title: 123 }, /^`title` must be a string/],
    [{ title: ['x'] }, /^`title` must be a string/],
    [{ title: { $ne: null } }, /^`title` must be a string/],
    [{ title: '' }, /^`title` must not be empty\.$/],
    [{ title: 'x'.repeat(201) }, /^`title` must have 1 to 200 characters\.$/],
    [{ options: { temperature: '1' } }, /^`options.temperature` must be a number from 0 to 5\.$/],
    [{ options: { seed: 1.5 } }, /^`options.seed` must be a whole number from -2147483648 to/],
    [{ options: { num_ctx: 1 } }, /^`options.num_ctx` must be a whole number of at least 256/],
    [{ options: { think: 'true' } }, /^`options.think` must be true or false\.$/],
    [{ options: { stop: 'x' } }, /^`options.stop` must be a list\.$/],
    [{ title: 'x', role: 'admin' }, /^`role` is not known here: there is `title`, `model`/],
    [{ title: 'x', userId: id }, /^`userId` is not known here/],
    [{ options: { $where: '1' } }, /^`options.\$where` is not known here: there is `num_ctx`/],
    [[], noObject],
    ['x', noObject],
    [1, noObject],
  ]
  for (const [body, message] of rows) {
    const answer = await createChat(body)
    t.equal(answer.status, 400, JSON.stringify(body))
    t.match(answer.body, { code: 'VALIDATION_FAILED', message }, JSON.stringify(body))
  }
})

t.test('an operator object in any field of the credentials is refused', async (t) => {
  const good: Record<string, Record<string, string>> = {
    register: { username: 'someone', email: 'someone@example.org', password: 'correct horse' },
    login: { username: 'someone', password: 'correct horse' },
    refresh: { refreshToken: 'x' },
  }
  for (const [route, fields] of Object.entries(good)) {
    for (const field of Object.keys(fields)) {
      for (const operator of [{ $ne: null }, { $gt: '' }, { $regex: '.*' }, [{ $ne: null }]]) {
        const body = JSON.stringify({ ...fields, [field]: operator })
        const { status } = await post(`/api/auth/${route}`, body)
        t.equal(status, 400, `${route}.${field} ${JSON.stringify(operator)}`)
      }
    }
    const { status } = await post(
      `/api/auth/${route}`,
      JSON.stringify({ ...fields, role: 'admin' }),
    )
    t.equal(status, 400, `${route} with a role`)
  }
})

t.test('lengths are counted in UTF-16 units', async (t) => {
  t.equal((await createChat({ title: '😀'.repeat(100) })).status, 201)
  t.equal((await createChat({ title: `${'😀'.repeat(100)}x` })).status, 400)
})

t.test('every fault of a body is told at once, each with its field', async (t) => {
  const rows: [string, unknown, object[]][] = [
    [
      '/api/auth/register',
      {},
      [
        { field: 'username', message: 'is missing' },
        { field: 'email', message: 'is missing' },
        { field: 'password', message: 'is missing' },
      ],
    ],
    ['/api/auth/login', { username: 'someone' }, [{ field: 'password', message: 'is missing' }]],
    [
      '/api/auth/login',
      { user: 'someone' },
      [
        { field: 'email, username', message: 'is missing' },
        { field: 'password', message: 'is missing' },
        { field: 'user', message: /^is not known here/ },
      ],
    ],
    [
      '/api/auth/register',
      { username: 'a b', password: 1, email: 'nobody', role: 'admin' },
      [
        { field: 'role', message: /^is not known here/ },
        { field: 'username', message: /^must be letters, digits/ },
        { field: 'email', message: /^must be an e-mail address/ },
        { field: 'password', message: 'must be a string' },
      ],
    ],
    [
      '/api/ai/chats',
      { title: '', options: { seed: 'x', stop: ['', 1] } },
      [
        { field: 'title', message: 'must not be empty' },
        { field: 'options.seed', message: /^must be a whole number/ },
        { field: 'options.stop.0', message: 'must not be empty' },
        { field: 'options.stop.1', message: 'must be a string' },
      ],
    ],
  ]
  for (const [path, sent, errors] of rows) {
    const { status, body } = await post(path, JSON.stringify(sent))
    t.equal(status, 400, path)
    t.match(body, { code: 'VALIDATION_FAILED', retryable: false, errors }, path)
    t.equal(body.errors?.length, errors.length, path)
    for (const { field, message } of body.errors ?? []) {
      t.ok(body.message.includes(`\`${field}\` ${message}`), `${field} is in the message`)
    }
  }
  const patch = await send(url, 'PATCH', `/api/ai/chats/${id}`, json, '{}')
  t.match(JSON.parse(patch.text), { message: /^`body` must have at least 1 of `title`, `model`/ })
})

t.test('every fault of a query string, a path and a header is told at once', async (t) => {
  const get = async (path: string, headers = {}) => {
    const { text } = await send(url, 'GET', path, { ...authorization, ...headers })
    return JSON.parse(text) as ApiError
  }
  t.match(await get('/api/ai/chats?limit=1e1&cursor=&page=2'), {
    message: /^In the query string: `limit` must be/,
    errors: [
      { field: 'limit', message: 'must be a whole number from 1 to 100' },
      { field: 'page', message: 'is not known here: there is `limit`, `cursor`' },
      { field: 'cursor', message: 'must not be empty' },
    ],
  })
  t.match((await get('/api/ai/chats?limit=101')).errors, [
    { field: 'limit', message: 'must be a whole number from 1 to 100' },
  ])
  t.match(await get('/api/ai/chats/x/messages/y/stream'), {
    message: /^In the path: `chatId` must be an ObjectId in hex.*; `messageId` must be/,
    errors: [{ field: 'chatId' }, { field: 'messageId' }],
  })
  t.match(await get(`/api/ai/chats/${id}/messages/${id}/stream`, { 'last-event-id': 'x' }), {
    message: /^In the headers: `last-event-id` must be the `id` of the last event/,
  })
  t.match(await get('/api/auth/profile?x=1'), { errors: [{ message: 'is not known here' }] })
})

t.test('faults without number are told in part, and cost no more than reading them', async (t) => {
  const many = Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`field${n}`, n]))
  const { status, body } = await createChat(many)
  t.equal(status, 400)
  t.equal(body.errors?.length, 20)
  const tooMany = await createChat({ options: { stop: Array(20_000).fill(1) } })
  t.match(tooMany, { status: 400, body: { message: /more than 10000 values/ } })
})

t.test('a body that is no JSON is told where it is not', async (t) => {
  const rows: [string, RegExp][] = [
    ['{"title": "x",}', /: see line 1, column 15 \(position 14\)/],
    ['{\n  "title": "x"\n  "model": "y"\n}', /: see line 3, column 3 \(position 19\)/],
    ["{'title': 'x'}", /: see line 1, column 2 /],
    ['{"title": secret-word}', /: see line 1, column 11 /],
    ['{"title": "x"', /: it ends too early, at line 1, column 14/],
    ['{"title": "secret-word', /: see line 1, column 11 /],
    ['{"title": "a\tb"}', /: see line 1, column 11 /],
    ['{} {}', /: see line 1, column 4 /],
    ['// none', /: see line 1, column 1 /],
    ['['.repeat(500_000), /^The body is not JSON/],
  ]
  for (const [body, message] of rows) {
    const answer = await post('/api/ai/chats', body)
    const expected = { status: 400, body: { code: 'BAD_JSON', message } }
    t.match(answer, expected, JSON.stringify(body.slice(0, 40)))
    t.notMatch(answer.body.message, /secret-word/)
  }
})

t.test('text that could not be given back is refused', async (t) => {
  const rows: [string, string | Uint8Array, string][] = [
    ['invalid UTF-8', Buffer.from('{"title":"\xff"}', 'latin1'), 'BAD_TEXT'],
    ['overlong UTF-8', Buffer.from('{"title":"\xc0\xaf"}', 'latin1'), 'BAD_TEXT'],
    ['a surrogate in UTF-8', Buffer.from('{"title":"\xed\xa0\x80"}', 'latin1'), 'BAD_TEXT'],
    ['cut UTF-8', Buffer.from('{"title":"é', 'utf8').subarray(0, -1), 'BAD_TEXT'],
    ['a lone high surrogate', '{"title":"\\ud83d"}', 'BAD_TEXT'],
    ['a lone low surrogate', '{"title":"\\ude00x"}', 'BAD_TEXT'],
    ['a pair the wrong way', '{"title":"\\ude00\\ud83d"}', 'BAD_TEXT'],
    ['NUL', '{"title":"a\\u0000b"}', 'BAD_TEXT'],
    ['NUL deep inside', '{"options":{"stop":["a\\u0000b"]}}', 'BAD_TEXT'],
    ['NUL in a key', '{"a\\u0000b":1}', 'BAD_TEXT'],
    ['a lone surrogate in a key', '{"\\ud83d":1}', 'BAD_TEXT'],
    ['UTF-16', Buffer.from('\ufeff{"title":"x"}', 'utf16le'), 'BAD_TEXT'],
  ]
  for (const [name, body, code] of rows) {
    t.match(await post('/api/ai/chats', body), { status: 400, body: { code } }, name)
  }
  const { status, body } = await post('/api/ai/chats', '{"title":"\\ud83d\\ude00 \\u00e9"}')
  t.equal(status, 201)
  t.match(body, { title: '😀 é' })
})

t.test('what would harm the parser or an object is refused', async (t) => {
  const deep = (n: number, open: string, close: string) => `${open.repeat(n)}1${close.repeat(n)}`
  const rows: [string, string, string][] = [
    ['arrays 33 deep', deep(33, '[', ']'), 'TOO_DEEP'],
    ['arrays 100,000 deep', deep(100_000, '[', ']'), 'TOO_DEEP'],
    ['objects 33 deep', deep(33, '{"a":', '}'), 'TOO_DEEP'],
    ['objects 100,000 deep', deep(100_000, '{"a":', '}'), 'TOO_DEEP'],
    ['deep in an unknown field', `{"title":"x","y":${deep(5000, '[', ']')}}`, 'TOO_DEEP'],
    ['arrays 32 deep', deep(32, '[', ']'), 'VALIDATION_FAILED'],
    ['half a million open brackets', '['.repeat(500_000), 'BAD_JSON'],
    ['__proto__', '{"__proto__":{"title":"x"}}', 'VALIDATION_FAILED'],
    ['__proto__ inside', '{"options":{"__proto__":{"seed":1}}}', 'VALIDATION_FAILED'],
    ['__proto__ escaped', '{"\\u005f_proto__":{}}', 'VALIDATION_FAILED'],
    ['constructor.prototype', '{"constructor":{"prototype":{"x":1}}}', 'VALIDATION_FAILED'],
    ['no JSON', '{"title":', 'BAD_JSON'],
    ['two values', '{} {}', 'BAD_JSON'],
    ['NaN', '{"title":NaN}', 'BAD_JSON'],
  ]
  for (const [name, body, code] of rows) {
    t.match(await post('/api/ai/chats', body), { status: 400, body: { code } }, name)
  }
  t.equal(({} as Record<string, unknown>).title, undefined)
})

t.test('a body over the limit is 413', async (t) => {
  const large = JSON.stringify({ title: 'x'.repeat(1024 * 1024) })
  t.match(await post('/api/ai/chats', large), { status: 413, body: { code: 'BODY_TOO_LARGE' } })
  const chunked = await send(
    url,
    'POST',
    '/api/ai/chats',
    { ...json, 'transfer-encoding': 'chunked' },
    large,
  )
  t.equal(chunked.status, 413)
})

t.test('only JSON in UTF-8 is taken', async (t) => {
  const good = [
    'application/json',
    'APPLICATION/JSON',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'application/json ; charset="utf-8"',
  ]
  const bad = [
    '',
    ' ',
    'json',
    'text/plain',
    'text/json',
    'application/jsonp',
    'application/json5',
    'application/vnd.api+json',
    'application/problem+json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/octet-stream',
    'application/json; charset=utf-16',
    'application/json; charset=latin1',
    'application/json; charset=utf-8; x=y',
    'application/json; x=y',
    'application/json;',
    'application/json, text/plain',
    'text/plain, application/json',
    'text/plain; application/json',
    'text/plain\tapplication/json',
    'application/json\ttext/plain',
    'application/ json',
    'application /json',
    'application\\json',
    'application/json/x',
    ';application/json',
    'application/json\x00',
    '*/*',
    'a',
  ]
  const body = JSON.stringify({ title: 'x' })
  for (const type of good) {
    const { status } = await post('/api/ai/chats', body, { ...authorization, 'content-type': type })
    t.equal(status, 201, type)
  }
  for (const type of bad) {
    // Node's client refuses to send NUL, and so is no danger.
    if (type.includes('\0')) continue
    const answer = await post('/api/ai/chats', body, { ...authorization, 'content-type': type })
    const expected = { status: 415, body: { code: 'UNSUPPORTED_MEDIA_TYPE' } }
    t.match(answer, expected, JSON.stringify(type))
  }
  t.equal((await post('/api/ai/chats', body, authorization)).status, 415, 'no type')
})

t.test('no route minds an absent, an empty or a null body', async (t) => {
  const bodies: [string, string | undefined][] = [
    ['absent', undefined],
    ['empty', ''],
    ['null', 'null'],
  ]
  const asked = routes.filter(({ operationId, method }) => operationId && method !== 'OPTIONS')
  t.ok(asked.length > 10, `${asked.length} routes`)
  for (const { method, path, operationId, hasBody } of asked) {
    if (operationId === 'logoutUser') continue
    for (const [name, body] of bodies) {
      if ((method === 'GET' || method === 'HEAD') && body) continue
      // Of its own user, since a route may end the session or the account.
      const { headers: bearer } = await register(url)
      for (const headers of [bearer, { ...bearer, 'content-type': 'application/json' }]) {
        const { status } = await send(url, method, path, headers, body)
        t.ok(status < 500, `${method} ${path}, ${name} body: ${status}`)
        const isNone = !body || (body === 'null' && 'content-type' in headers)
        if (operationId === 'createChat' && isNone) {
          // An empty body that says it is JSON is none; with no type, one of no length is none.
          t.equal(status, 201, `${operationId}, ${name} body`)
        } else if (hasBody) t.ok(status === 400 || status === 415, `${operationId}: ${status}`)
      }
    }
  }
  const guest = await register(url)
  const bearer = { ...guest.headers, 'content-type': 'application/json' }
  t.equal((await send(url, 'POST', '/api/auth/logout', bearer, 'null')).status, 204)
  t.equal((await send(url, 'GET', '/health/live')).status, 200, 'the process lives')
})

t.test('a query string is text: only digits are a number', async (t) => {
  const list = async (query: string) => {
    const { status, text } = await send(url, 'GET', `/api/ai/chats${query}`, authorization)
    return { status, body: JSON.parse(text) as ApiError }
  }
  for (const query of ['', '?', '?limit=1', '?limit=100']) {
    t.equal((await list(query)).status, 200, query)
  }
  for (const query of [
    '?limit=0x10',
    '?limit=1e1',
    '?limit=1.0',
    '?limit=+5',
    '?limit=%205',
    '?limit=',
    '?limit',
    '?limit=0',
    '?limit=101',
    '?limit=-1',
    '?limit=true',
    '?limit=1&limit=2',
    '?limit[]=1',
    '?limit[$gt]=1',
    '?cursor=%00',
    '?cursor=a%00b',
    '?cursor=',
    '?unknown=1',
    '?__proto__=1',
    '?constructor=1',
  ]) {
    const { status, body } = await list(query)
    t.equal(status, 400, `${query} ${body.message}`)
  }
})

t.test('a documented route takes no query parameter that it does not name', async (t) => {
  for (const path of ['/api/auth/profile?x=1', '/api/ai/models?refresh=true']) {
    const { status } = await send(url, 'GET', path, authorization)
    t.equal(status, 400, path)
  }
})

t.test('ids in a path are ids', async (t) => {
  for (const chatId of [
    'x',
    id.toUpperCase(),
    `${id}0`,
    '%00',
    '..%2f',
    '$ne',
    '[object%20Object]',
  ]) {
    const { status } = await send(url, 'GET', `/api/ai/chats/${chatId}`, authorization)
    t.equal(status, 400, chatId)
  }
})

t.test('headers that a route names are checked, others are not', async (t) => {
  const path = `/api/ai/chats/${id}/messages`
  const body = JSON.stringify({ content: 'x' })
  const long = await post(path, body, { ...json, 'Idempotency-Key': 'x'.repeat(256) })
  t.match(long, {
    status: 400,
    body: { errors: [{ field: 'idempotency-key', message: 'must have 1 to 255 characters' }] },
  })
  t.equal((await post(path, body, { ...json, 'Idempotency-Key': 'x', 'X-Other': 'y' })).status, 404)
})

t.test('a socket’s payload is checked as a body is', async (t) => {
  t.strictSame(app.validatePayload(JoinChat, { chatId: id }), { chatId: id })
  t.match(app.validatePayload(ChatInput, { title: 'x' }), { title: 'x' })
  let deep: unknown = 1
  for (let i = 0; i < 100_000; i++) deep = [deep]
  const rows: [unknown, string, RegExp?][] = [
    [undefined, 'VALIDATION_FAILED', /^`payload` must be an object with `chatId`, `content`\.$/],
    [null, 'VALIDATION_FAILED', /^`payload` must be an object with/],
    [{}, 'VALIDATION_FAILED', /^`chatId` is missing; `content` is missing\.$/],
    [{ chatId: 1, content: 'x' }, 'VALIDATION_FAILED', /^`chatId` must be a string\.$/],
    [{ chatId: 'x', content: 'x' }, 'VALIDATION_FAILED', /^`chatId` must be an ObjectId in hex/],
    [{ chatId: id, content: 'x', userId: id }, 'VALIDATION_FAILED', /^`userId` is not known/],
    [{ chatId: { $ne: null }, content: 'x' }, 'VALIDATION_FAILED'],
    [{ chatId: id, content: Buffer.from('x') }, 'VALIDATION_FAILED', /binary/],
    [{ chatId: id, content: new ArrayBuffer(1) }, 'VALIDATION_FAILED', /binary/],
    [JSON.parse(`{"chatId":"${id}","__proto__":{}}`), 'VALIDATION_FAILED', /__proto__/],
    [{ chatId: id, content: '\ud83d' }, 'BAD_TEXT'],
    [{ chatId: id, content: 'a\0b' }, 'BAD_TEXT'],
    [{ chatId: id, content: deep }, 'TOO_DEEP'],
    [{ chatId: id, content: 'x'.repeat(100_001) }, 'VALIDATION_FAILED', /1 to 100000 characters/],
  ]
  for (const [payload, code, message] of rows) {
    const expected = { code, ...(message && { message }) }
    t.throws(() => app.validatePayload(ChatMessage, payload), expected, message?.source ?? code)
  }
})

t.test('a socket is told every fault of its payload, in the words of REST', async (t) => {
  const { token } = await register(url)
  const socket = await connect(t, url, token)
  const payload = { chatId: 'x', options: { seed: 'y' }, role: 'admin' }
  const { ok, error } = await ask(socket, 'chat-message', payload)
  t.equal(ok, false)
  t.match(error, { code: 'VALIDATION_FAILED', retryable: false })
  for (const words of [
    '`content` is missing',
    '`role` is not known here: there is `chatId`, `content`',
    '`chatId` must be an ObjectId in hex',
    '`options.seed` must be a whole number from',
  ]) {
    t.match(error.message, words)
  }
  t.match(error.message, /2147483647\. chat-message takes \{chatId, content, .*options\?\}\.$/)
})
