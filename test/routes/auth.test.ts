import { randomBytes } from 'node:crypto'
import { Writable } from 'node:stream'
import { io } from 'socket.io-client'
import t, { type Test } from 'tap'
import type { SignedIn, TokenPair, User } from '../../schemas/auth.js'
import type { ApiError } from '../../schemas/common.js'
import { parseConfig } from '../../src/config.js'
import { loggerOptions } from '../../src/logging.js'
import { api, startApp } from '../services/app.js'
import { ask } from '../services/client.js'
import { send } from '../services/raw.js'

const password = 'correct horse battery'
const ada = { username: 'Ada.Lovelace', email: 'Ada@Example.org', password }

async function start(t: Test, settings: Record<string, string> = {}) {
  const { url } = await startApp(t, settings)
  return { url, call: api(url) }
}

t.test('register, profile, login, refresh and logout', async (t) => {
  const { url, call } = await start(t, { JWT_EXPIRES_IN: '15m' })
  const before = Date.now()
  const registered = await call<SignedIn>('POST', '/api/auth/register', ada)
  t.equal(registered.status, 201)
  const { user, token, refreshToken, expiresIn } = registered.body
  t.match(user, { id: /^[0-9a-f]{24}$/, username: ada.username, email: ada.email })
  const createdAt = Date.parse(user.createdAt)
  t.ok(createdAt >= before && createdAt <= Date.now(), user.createdAt)
  t.ok(expiresIn <= 900 && expiresIn > 840, `${expiresIn} s are left of 900`)
  t.strictSame(Object.keys(registered.body).sort(), ['expiresIn', 'refreshToken', 'token', 'user'])

  const profile = await api(url, token)<User>('GET', '/api/auth/profile')
  t.equal(profile.status, 200)
  t.strictSame(profile.body, user)

  for (const login of [
    { username: ada.username },
    { username: ada.username.toUpperCase() },
    { email: ada.email },
    { email: ada.email.toLowerCase() },
  ]) {
    const { status, body } = await call<SignedIn>('POST', '/api/auth/login', { ...login, password })
    t.equal(status, 200, JSON.stringify(login))
    t.strictSame(body.user, user)
  }

  const refreshed = await call<TokenPair>('POST', '/api/auth/refresh', { refreshToken })
  t.equal(refreshed.status, 200)
  t.strictSame(Object.keys(refreshed.body).sort(), ['expiresIn', 'refreshToken', 'token'])
  const again = await call<TokenPair>('POST', '/api/auth/refresh', { refreshToken })
  const tokensOf = ({ token, refreshToken }: TokenPair) => ({ token, refreshToken })
  t.strictSame(tokensOf(again.body), tokensOf(refreshed.body), 'a lost answer harms nobody')

  const signedIn = api(url, refreshed.body.token)
  t.equal((await signedIn('POST', '/api/auth/logout')).status, 204)
  t.match(await signedIn('GET', '/api/auth/profile'), {
    status: 401,
    body: { code: 'UNAUTHORIZED' },
  })
  t.equal((await api(url, token)('GET', '/api/auth/profile')).status, 401, 'the older token too')
  t.match(await call('POST', '/api/auth/refresh', { refreshToken: refreshed.body.refreshToken }), {
    status: 401,
    body: { code: 'BAD_REFRESH_TOKEN' },
  })
})

t.test('a username or email that is taken is 409, whatever its case', async (t) => {
  const { call } = await start(t)
  t.equal((await call('POST', '/api/auth/register', ada)).status, 201)
  for (const other of [
    ada,
    { ...ada, username: ada.username.toUpperCase(), email: 'other@example.org' },
    { ...ada, username: 'other', email: ada.email.toUpperCase() },
  ]) {
    const { status, body } = await call<ApiError>('POST', '/api/auth/register', other)
    t.equal(status, 409)
    t.equal(body.code, 'USER_TAKEN')
  }
})

t.test('of 100 equal registrations at once one is 201 and 99 are 409', async (t) => {
  const { call } = await start(t)
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => call<ApiError>('POST', '/api/auth/register', ada)),
  )
  const statuses = answers.map(({ status }) => status)
  t.equal(statuses.filter((status) => status === 201).length, 1)
  t.equal(statuses.filter((status) => status === 409).length, 99)
  t.equal((await call('POST', '/api/auth/login', { email: ada.email, password })).status, 200)
})

t.test('registrations outside the rules are refused', async (t) => {
  const { call } = await start(t)
  const rows: [object, string][] = [
    [{ username: 'a' }, 'VALIDATION_FAILED'],
    [{ username: 'a b' }, 'VALIDATION_FAILED'],
    [{ username: 'a@b.c' }, 'VALIDATION_FAILED'],
    [{ username: 'x'.repeat(65) }, 'VALIDATION_FAILED'],
    [{ email: 'nobody' }, 'VALIDATION_FAILED'],
    [{ email: 'a@b' }, 'VALIDATION_FAILED'],
    [{ email: `${'x'.repeat(250)}@b.cd` }, 'VALIDATION_FAILED'],
    [{ password: 'short' }, 'VALIDATION_FAILED'],
    [{ password: 'x'.repeat(73) }, 'VALIDATION_FAILED'],
    [{ password: 'é'.repeat(37) }, 'PASSWORD_TOO_LONG'],
    [{ role: 'admin' }, 'VALIDATION_FAILED'],
    [{ id: 'a'.repeat(24) }, 'VALIDATION_FAILED'],
    [{ password: undefined }, 'VALIDATION_FAILED'],
    [{ password: 'tab\tin the middle' }, 'VALIDATION_FAILED'],
    [{ password: 'Password1' }, 'PASSWORD_TOO_WEAK'],
    [{ password: `my ${ada.username.toUpperCase()}!` }, 'PASSWORD_TOO_WEAK'],
    ...[
      ...['\u0000', '\u0007', '\u007f', '\u0085', '\u00ad'],
      ...['\u200b', '\u200d', '\u2060', '\ufeff', '\u180e', '\ufe0f', '\u3164'],
      ...['\u200e', '\u061c', '\u202e', '\u2066', '\u2069', '\u{e0041}', '\u{e0100}'],
    ].flatMap((character): [object, string][] => [
      [
        { email: `ad${character}a@example.org` },
        character === '\0' ? 'BAD_TEXT' : 'VALIDATION_FAILED',
      ],
      [
        { email: `ada@exam${character}ple.org` },
        character === '\0' ? 'BAD_TEXT' : 'VALIDATION_FAILED',
      ],
    ]),
  ]
  for (const [change, code] of rows) {
    const answer = await call('POST', '/api/auth/register', { ...ada, ...change })
    t.match(
      answer,
      { status: 400, body: { code } },
      encodeURIComponent(JSON.stringify(change)).slice(0, 60),
    )
  }
  const foreign = { ...ada, username: 'zoe', email: 'zoë@exämple.org' }
  t.equal((await call('POST', '/api/auth/register', foreign)).status, 201, 'letters are letters')
  const longest = { ...ada, password: 'éèàü'.repeat(9) }
  t.equal((await call('POST', '/api/auth/register', longest)).status, 201)
  const beyond = { email: ada.email, password: `${longest.password}x` }
  t.equal((await call('POST', '/api/auth/login', beyond)).status, 401, 'bytes past 72 count')
})

t.test('a login wants a password and exactly one name', async (t) => {
  const { call } = await start(t)
  for (const body of [
    {},
    { password },
    { username: 'ada' },
    { username: 'ada', email: ada.email },
    { username: 'ada', email: ada.email, password },
    { username: 'ada', password: '' },
    { username: 'ada', password, remember: true },
  ]) {
    t.equal((await call('POST', '/api/auth/login', body)).status, 400, JSON.stringify(body))
  }
})

t.test('an unknown account and a wrong password are answered alike', async (t) => {
  const { call } = await start(t, { RATE_LIMIT_LOGIN_FAILURES: '3' })
  await call('POST', '/api/auth/register', ada)
  const wrong = { password: 'not the password' }
  // Not one that an earlier run has locked.
  const nobody = `Nobody.${randomBytes(6).toString('hex')}`
  const names = [{ username: nobody }, { username: ada.username }]
  for (let attempt = 1; attempt <= 4; attempt++) {
    const [unknown, known] = await Promise.all(
      names.map((name) => call<ApiError>('POST', '/api/auth/login', { ...name, ...wrong })),
    )
    t.equal(unknown?.status, attempt <= 3 ? 401 : 429)
    t.equal(known?.status, unknown?.status)
    t.strictSame({ ...known?.body, requestId: '' }, { ...unknown?.body, requestId: '' })
    const headerNames = (headers?: Headers) => [...(headers?.keys() ?? [])].sort()
    t.strictSame(headerNames(known?.headers), headerNames(unknown?.headers))
  }
  const right = { username: ada.username, password }
  const locked = await call<ApiError>('POST', '/api/auth/login', right)
  t.match(locked, { status: 429, body: { code: 'RATE_LIMITED' } }, 'the right password too')
  const seconds = Number(locked.headers.get('retry-after'))
  t.ok(seconds > 290 && seconds <= 300, `Retry-After: ${seconds}`)
})

t.test('270 wrong logins at once from one address keep no other from logging in', async (t) => {
  const { url, call } = await start(t, { RATE_LIMIT_LOGIN_FAILURES: '0' })
  await call('POST', '/api/auth/register', ada)
  const login = (candidate: string, from: string) =>
    send(
      url,
      'POST',
      '/api/auth/login',
      { 'content-type': 'application/json' },
      JSON.stringify({ username: ada.username, password: candidate }),
      from,
    )
  const wrong = Array.from({ length: 270 }, (_, n) => login(`wrong ${n}`, '127.0.0.1'))
  t.equal((await login(password, '127.0.0.2')).status, 200)
  for (const { status } of await Promise.all(wrong)) t.ok(status === 401 || status === 503)
})

t.test('a stranger who guesses locks out neither the owner nor their networks', async (t) => {
  const { url, call } = await start(t, { RATE_LIMIT_LOGIN_FAILURES: '3' })
  const name = `Owner.${randomBytes(6).toString('hex')}`
  const owner = { username: name, email: `${name}@example.org`, password }
  await call('POST', '/api/auth/register', owner)
  const login = async (candidate: string, from: string) => {
    const body = JSON.stringify({ username: name, password: candidate })
    const type = { 'content-type': 'application/json' }
    return (await send(url, 'POST', '/api/auth/login', type, body, from)).status
  }
  for (const _ of [1, 2, 3]) t.equal(await login('wrong', '127.0.0.9'), 401)
  t.equal(await login(password, '127.0.0.9'), 429)
  t.equal(await login(password, '127.0.0.1'), 200)
  t.equal(await login(password, '127.0.0.2'), 200, 'where nobody has logged in yet')
})

t.test('a password set in one Unicode form is right in another', async (t) => {
  const { url, call } = await start(t)
  const composed = 'd\u00e9j\u00e0 vu chez Zo\u00eb'
  const forms = { composed, decomposed: composed.normalize('NFD') }
  const accounts = Object.entries(forms).map(([username, written]) => ({
    username,
    email: `${username}@example.org`,
    password: written,
  }))
  for (const account of accounts) {
    const { username } = account
    t.equal((await call('POST', '/api/auth/register', account)).status, 201)
    let token = ''
    for (const written of Object.values(forms)) {
      const answer = await call<SignedIn>('POST', '/api/auth/login', {
        username,
        password: written,
      })
      t.equal(answer.status, 200, username)
      token = answer.body.token
    }
    const other = account.password === composed ? forms.decomposed : composed
    const deletion = await api(url, token)('DELETE', '/api/auth/profile', { password: other })
    t.equal(deletion.status, 204, 'the account’s deletion takes it too')
  }
})

t.test('a restart ends no session', async (t) => {
  const DATA_DIR = t.testdir()
  const first = await startApp(t, { DATA_DIR })
  const { body } = await api(first.url)<SignedIn>('POST', '/api/auth/register', ada)
  await first.close()
  const second = await startApp(t, { DATA_DIR })
  t.equal((await api(second.url, body.token)('GET', '/api/auth/profile')).status, 200)
  const { refreshToken } = body
  t.equal((await api(second.url)('POST', '/api/auth/refresh', { refreshToken })).status, 200)
})

t.test('what happens to accounts is told in the log, without passwords and tokens', async (t) => {
  let log = ''
  const stream = new Writable({
    write(chunk, _encoding, done) {
      log += chunk
      done()
    },
  })
  const { url } = await startApp(t, { RATE_LIMIT_LOGIN_FAILURES: '2' }, () => {}, {
    logger: { ...loggerOptions(parseConfig({ LOG_LEVEL: 'trace' })), stream },
  })
  const call = api(url)
  const canary = 'canary-7f3a9-password'
  const secrets = [canary]
  // Not one that an earlier test has locked.
  const username = `Told.${randomBytes(6).toString('hex')}`
  const registered = await call<SignedIn>('POST', '/api/auth/register', {
    username,
    email: `${username}@example.org`,
    password: canary,
  })
  const { token, refreshToken } = registered.body
  const pair = await call<TokenPair>('POST', '/api/auth/refresh', { refreshToken })
  secrets.push(token, refreshToken, pair.body.token, pair.body.refreshToken)

  for (const body of [
    { username, password: canary },
    { username, password: `${canary}!` },
    { username: canary, password: canary },
    { password: canary },
    { username: { $ne: canary }, password: canary },
    { [canary]: canary },
  ]) {
    await call('POST', '/api/auth/login', body)
  }
  await fetch(`${url}/api/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: `{"password":"${canary}"`,
  })
  const signedIn = api(url, pair.body.token)
  await signedIn('GET', '/api/auth/profile')
  await signedIn('GET', `/api/auth/profile?token=${canary}`)
  await api(url, `${token}x`)('GET', '/api/auth/profile')
  await api(url, canary)('GET', '/api/auth/profile')
  await call('POST', '/api/auth/refresh', { refreshToken: canary })
  for (const [auth, extraHeaders] of [
    [{ token: pair.body.token }],
    [{ token: canary }],
    [{ token: `Bearer ${pair.body.token}x` }],
    [{}, { authorization: `Bearer ${canary}` }],
    [{ password: canary }],
  ] as const) {
    const socket = io(url, { auth, extraHeaders, forceNew: true, reconnection: false })
    t.teardown(() => socket.disconnect())
    const outcome = new Promise((resolve) => {
      socket.once('connect', () => resolve(undefined))
      socket.once('connect_error', resolve)
    })
    if ((await outcome) === undefined) {
      await ask(socket, 'authenticate', { token: canary })
      await ask(socket, 'authenticate', { token: pair.body.token, password: canary })
      await ask(socket, 'join-chat', { chatId: canary })
    }
    socket.disconnect()
  }
  await signedIn('POST', '/api/auth/logout')
  await signedIn('GET', '/api/auth/profile')
  const name = `gone.${randomBytes(6).toString('hex')}`
  const gone = await call<SignedIn>('POST', '/api/auth/register', {
    username: name,
    email: `${name}@example.org`,
    password: canary,
  })
  secrets.push(gone.body.token, gone.body.refreshToken)
  const goneCall = api(url, gone.body.token)
  await goneCall('DELETE', '/api/auth/profile', { password: `${canary}?` })
  await goneCall('DELETE', '/api/auth/profile', { password: canary })
  const lines = log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const events = (userId: string) =>
    lines
      .filter((line) => line.event !== undefined && line.userId === userId)
      .map(({ event, code, network }) => [event, code, network].filter(Boolean).join(' '))
  t.strictSame(events(registered.body.user.id), [
    'login-failed 127.0.0.1',
    'session-ended LOGGED_OUT 127.0.0.1',
  ])
  t.strictSame(events(gone.body.user.id), [
    'login-failed 127.0.0.1',
    'session-ended ACCOUNT_DELETED 127.0.0.1',
    'account-deleted 127.0.0.1',
  ])
  for (const secret of secrets) t.notMatch(log, secret, `${secret.slice(0, 20)}…`)
  const [, , signature = ''] = token.split('.')
  t.notMatch(log, signature)
})
