import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { createPasswords } from '../../src/auth/passwords.js'
import { createSessions } from '../../src/auth/sessions.js'
import { createTokens } from '../../src/auth/tokens.js'
import type { Cache } from '../../src/cache/cache.js'
import { createMemoryCache } from '../../src/cache/memory.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import type { Store } from '../../src/stores/store.js'

const secret = 'a secret of the tests, of 32 bytes and more'
const password = 'correct horse'
const dayMs = 86_400_000
/** A client's network. */
const home = '192.0.2.1'

const jwt = await (async () => {
  const fastify = Fastify()
  await fastify.register(fastifyJwt, { secret })
  return fastify.jwt
})()
const passwords = await createPasswords(4)
const tokens = createTokens(secret, 3600, {
  sign: (claims) => jwt.sign(claims),
  verify: (token) => jwt.verify(token),
})

/** The session that an access token is of. */
const ownerOf = (token: string) => tokens.readAccess(token)

/** The cache of a server that has lost Redis: it keeps nothing, and hears nobody. */
const lost = (cache: Cache): Cache => ({
  ...cache,
  get: async () => undefined,
  set: async () => false,
  setIfAbsent: async () => true,
  subscribe: async () => async () => {},
})

/** The cache of a server over whose connection no message comes any more. */
const deaf = (cache: Cache): Cache => ({ ...cache, subscribe: async () => async () => {} })

/** The same; `missed` tells its server that messages may have been missed. */
function withGaps(cache: Cache) {
  let tell = () => {}
  const onGap: Cache['onGap'] = (listener) => {
    tell = listener
    return () => {}
  }
  return { cache: { ...deaf(cache), onGap }, missed: () => tell() }
}

/** Accounts over a real store, with a clock that is moved by hand. */
async function setUp(t: Test) {
  let time = Date.now()
  let looks = 0
  const now = () => time
  const sqlite = openSqliteStore(t.testdir())
  const store: Store = {
    ...sqlite,
    findSession: (id) => {
      looks++
      return sqlite.findSession(id)
    },
  }
  t.teardown(() => store.close())
  const cache = createMemoryCache({ now })
  const logged: Record<string, unknown>[] = []
  const keep = (fields: object) => void logged.push({ ...fields })
  const log = { info: keep, warn: keep }
  const server = (options: { cache?: Cache; maxLoginFailures?: number } = {}) =>
    createSessions({ store, cache, tokens, passwords, maxLoginFailures: 3, log, now, ...options })
  const sessions = await server()
  return {
    sessions,
    store,
    logged,
    cache,
    /** Another server; with a cache of its own the news between them are lost. */
    server,
    now,
    pass: (ms: number) => {
      time += ms
    },
    looks: () => looks,
    register: () =>
      sessions.register({ username: 'Ada', email: 'Ada@example.org', password }, home),
  }
}

t.test('20 refreshes at once give one child', async (t) => {
  const { sessions, register, server } = await setUp(t)
  const { token, refreshToken, expiresIn, user } = await register()
  const other = await server()
  const pairs = await Promise.all(
    Array.from({ length: 20 }, (_, i) => (i % 2 ? sessions : other).refresh(refreshToken)),
  )
  const [first] = pairs
  for (const pair of pairs) t.strictSame(pair, first)
  t.not(first?.refreshToken, refreshToken)
  t.not(first?.token, token)
  t.equal(first?.expiresIn, expiresIn)
  t.match(await sessions.authenticate(first?.token ?? ''), { userId: user.id })
})

t.test('a spent token gives the same pair for 10 seconds, then ends the session', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  const first = await register()
  const second = await sessions.refresh(first.refreshToken)
  pass(10_000)
  const { token, refreshToken } = await sessions.refresh(first.refreshToken)
  t.strictSame({ token, refreshToken }, { token: second.token, refreshToken: second.refreshToken })
  const { sessionId } = await sessions.authenticate(second.token)
  const ended: string[] = []
  sessions.watch(sessionId, (code) => ended.push(code))
  pass(1)
  await t.rejects(sessions.refresh(first.refreshToken), { code: 'BAD_REFRESH_TOKEN' })
  t.strictSame(ended, ['TOKEN_REUSED'])
  await t.rejects(sessions.authenticate(second.token), { code: 'UNAUTHORIZED' })
  await t.rejects(sessions.refresh(second.refreshToken), { code: 'BAD_REFRESH_TOKEN' })
})

t.test('any token that was spent less than 10 seconds ago gives the newest pair', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  const first = await register()
  const second = await sessions.refresh(first.refreshToken)
  pass(500)
  const third = await sessions.refresh(second.refreshToken)
  t.match(await sessions.refresh(first.refreshToken), { refreshToken: third.refreshToken })
  t.match(await sessions.refresh(second.refreshToken), { refreshToken: third.refreshToken })
  pass(500)
  const fourth = await sessions.refresh(third.refreshToken)
  for (const { refreshToken } of [first, second, third]) {
    t.match(await sessions.refresh(refreshToken), { refreshToken: fourth.refreshToken })
  }
  t.match(await sessions.authenticate(fourth.token), { userId: String })
})

t.test('of several spent tokens the one spent longer ago ends the session', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  const first = await register()
  const second = await sessions.refresh(first.refreshToken)
  pass(9000)
  const third = await sessions.refresh(second.refreshToken)
  pass(1001)
  t.match(await sessions.refresh(second.refreshToken), { refreshToken: third.refreshToken })
  await t.rejects(sessions.refresh(first.refreshToken), { code: 'BAD_REFRESH_TOKEN' })
  await t.rejects(sessions.authenticate(third.token), { code: 'UNAUTHORIZED' })
})

t.test('a pair that is given again says how long its access token is still good', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  const first = await register()
  const second = await sessions.refresh(first.refreshToken)
  t.equal(second.expiresIn, 3600)
  pass(9000)
  const again = await sessions.refresh(first.refreshToken)
  t.equal(again.token, second.token)
  t.equal(again.expiresIn, 3591)
})

t.test('a refresh token that was not made here ends nothing', async (t) => {
  const { sessions, register } = await setUp(t)
  const { token, refreshToken } = await register()
  const [id = '', generation = '', mac = ''] = refreshToken.split('.')
  const forged = [
    `${id}.1.${mac}`,
    `${id}.00.${mac}`,
    `${id}.${generation}.${mac.slice(0, -1)}`,
    `${id}.${generation}.${'A'.repeat(43)}`,
    `${'f'.repeat(24)}.${generation}.${mac}`,
    `${refreshToken}=`,
    ` ${refreshToken}`,
    token,
    '',
    'x',
  ]
  for (const candidate of forged) {
    await t.rejects(sessions.refresh(candidate), { code: 'BAD_REFRESH_TOKEN' }, candidate)
  }
  t.match(await sessions.authenticate(token), { sessionId: id })
  t.match(await sessions.refresh(refreshToken), { refreshToken: String })
})

t.test('a session lives 30 days from its last refresh', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  const first = await register()
  pass(29 * dayMs)
  const second = await sessions.refresh(first.refreshToken)
  pass(29 * dayMs)
  const third = await sessions.refresh(second.refreshToken)
  pass(30 * dayMs)
  await t.rejects(sessions.refresh(third.refreshToken), { code: 'BAD_REFRESH_TOKEN' })
})

t.test('a session that expired has ended as by a logout, and nobody is suspected', async (t) => {
  const { sessions, register, pass, logged } = await setUp(t)
  const { refreshToken } = await register()
  const [sessionId = ''] = refreshToken.split('.')
  pass(30 * dayMs)
  await t.rejects(sessions.refresh(refreshToken), { code: 'BAD_REFRESH_TOKEN' })
  t.equal(sessions.endOf(sessionId), 'LOGGED_OUT')
  t.strictSame(
    logged.filter(({ event }) => event === 'token-reused'),
    [],
  )
})

t.test('a refresh token of a later generation than the store has ends the session', async (t) => {
  // As after a backup was restored.
  const { sessions, register, store } = await setUp(t)
  const first = await register()
  const { refreshToken } = await sessions.refresh(
    (await sessions.refresh(first.refreshToken)).refreshToken,
  )
  const session = await store.findSession(refreshToken.split('.')[0] ?? '')
  if (!session) throw new Error('no session')
  const later = tokens.pair({ ...session, generation: session.generation + 1 })
  await t.rejects(sessions.refresh(later.refreshToken), { code: 'BAD_REFRESH_TOKEN' })
  t.equal(sessions.endOf(session.id), 'TOKEN_REUSED')
})

t.test('of the refresh tokens that were spent at once only the newest 100 are kept', async (t) => {
  const { sessions, register, store } = await setUp(t)
  let { refreshToken } = await register()
  for (let n = 0; n < 101; n++) ({ refreshToken } = await sessions.refresh(refreshToken))
  const session = await store.findSession(refreshToken.split('.')[0] ?? '')
  t.equal(session?.spentAt.length, 100)
})

t.test('an access token says until when it is good', async (t) => {
  const { sessions, register, now } = await setUp(t)
  const { token, expiresIn } = await register()
  const { expiresAt } = await sessions.authenticate(token)
  t.equal(Math.ceil((expiresAt.getTime() - now()) / 1000), expiresIn)
})

t.test('a session is read from the store once a minute, by all servers together', async (t) => {
  const { sessions, register, server, pass, looks } = await setUp(t)
  const { token } = await register()
  const other = await server()
  const before = looks()
  await Promise.all(Array.from({ length: 500 }, () => sessions.authenticate(token)))
  for (let second = 0; second < 59; second++) {
    await other.authenticate(token)
    await sessions.authenticate(token)
    pass(1000)
  }
  t.equal(looks() - before, 1)
  pass(1001)
  await sessions.authenticate(token)
  t.equal(looks() - before, 2, 'asked again after it')
})

t.test('a server without a shared cache asks the store once a second', async (t) => {
  const { register, server, pass, looks } = await setUp(t)
  const { token } = await register()
  const sessions = await server({ cache: lost(createMemoryCache()) })
  const before = looks()
  await Promise.all(Array.from({ length: 500 }, () => sessions.authenticate(token)))
  pass(999)
  await sessions.authenticate(token)
  t.equal(looks() - before, 1)
  pass(2)
  await sessions.authenticate(token)
  t.equal(looks() - before, 2)
})

t.test('a logout is known at once here and on every server that hears of it', async (t) => {
  const { sessions, register, server } = await setUp(t)
  const { token } = await register()
  const other = await server()
  const owner = await other.authenticate(token)
  const { sessionId } = owner
  const ended: string[] = []
  other.watch(sessionId, (code) => ended.push(code))
  const stop = other.watch(sessionId, () => t.fail('told after it stopped listening'))
  stop()
  await sessions.logout(owner)
  await sessions.logout(owner)
  await t.rejects(sessions.authenticate(token), { code: 'UNAUTHORIZED' })
  await t.rejects(other.authenticate(token), { code: 'UNAUTHORIZED' })
  await t.rejects(other.assertLive(owner), { code: 'LOGGED_OUT', statusCode: 401 })
  t.strictSame(ended, ['LOGGED_OUT'], 'told once')
  other.watch(sessionId, (code) => ended.push(`late ${code}`))
  t.strictSame(ended.slice(1), ['late LOGGED_OUT'], 'who comes later is told at once')
})

for (const hears of [true, false]) {
  t.test(
    `an end wins over what the store said before, at a server that ${hears ? 'hears' : 'does not hear'} of it`,
    async (t) => {
      const { sessions, register, server, store, cache, looks } = await setUp(t)
      const { token } = await register()
      const other = await server({ cache: hears ? cache : deaf(cache) })
      const { findSession } = store
      let answer = () => {}
      const held = new Promise<void>((resolve) => {
        answer = resolve
      })
      let begun = () => {}
      const isAsked = new Promise<void>((resolve) => {
        begun = resolve
      })
      store.findSession = async (id) => {
        const found = await findSession(id)
        begun()
        await held
        return found
      }
      const asked = other.authenticate(token)
      await isAsked
      await sessions.logout(ownerOf(token))
      answer()
      await t.rejects(asked, { code: 'UNAUTHORIZED' })
      const before = looks()
      await t.rejects(other.authenticate(token), { code: 'UNAUTHORIZED' })
      await t.rejects((await server()).authenticate(token), { code: 'UNAUTHORIZED' })
      t.equal(looks(), before, 'the tombstone answers in place of the store')
    },
  )
}

t.test('a tombstone outlives every access token of its session', async (t) => {
  const { sessions, register, server, looks, pass } = await setUp(t)
  const { token } = await register()
  await sessions.logout(ownerOf(token))
  pass(tokens.lifeMs)
  const before = looks()
  await t.rejects((await server()).assertLive(ownerOf(token)), { code: 'LOGGED_OUT' })
  t.equal(looks(), before)
})

for (const many of [false, true]) {
  t.test(
    `a server that dies while it ends ${many ? 'all sessions of a user' : 'a session'} leaves no copy that is believed`,
    async (t) => {
      const { sessions, register, server, store, pass } = await setUp(t)
      const { token } = await register()
      const other = await server()
      const owner = await other.authenticate(token)
      const { deleteSession, deleteSessionsOf } = store
      let isDone = () => {}
      const done = new Promise<void>((resolve) => {
        isDone = resolve
      })
      const never = new Promise<never>(() => {})
      store.deleteSession = (id) =>
        deleteSession(id)
          .then(isDone)
          .then(() => never)
      store.deleteSessionsOf = (id) =>
        deleteSessionsOf(id)
          .then(isDone)
          .then(() => never)
      void (many ? sessions.logoutEverywhere(owner.userId) : sessions.logout(owner))
      await done
      pass(1001)
      await t.rejects(other.authenticate(token), { code: 'UNAUTHORIZED' })
    },
  )
}

t.test('an end whose message was missed is learnt later, with its reason', async (t) => {
  const { sessions, register, server, cache, pass } = await setUp(t)
  const { token } = await register()
  const { cache: gappy, missed } = withGaps(cache)
  const other = await server({ cache: gappy })
  const owner = await other.authenticate(token)
  const ended = new Promise((resolve) => other.watch(owner.sessionId, resolve))
  await sessions.logoutEverywhere(owner.userId, 'ACCOUNT_DELETED')
  missed()
  t.equal(await ended, 'ACCOUNT_DELETED')
  pass(1001)
  await t.rejects(other.assertLive(owner), { code: 'ACCOUNT_DELETED' })
})

t.test('a session that is watched stays live when it is asked for', async (t) => {
  const { sessions, register } = await setUp(t)
  const { token } = await register()
  const owner = await sessions.authenticate(token)
  sessions.watch(owner.sessionId, (code) => t.fail(code))
  await sessions.assertLive(owner)
  t.match(await sessions.authenticate(token), owner)
})

t.test('while the store fails, which sessions ended is asked again until it answers', async (t) => {
  const { sessions, register, server, cache, store, logged } = await setUp(t)
  const { token } = await register()
  const { cache: gappy, missed } = withGaps(cache)
  const other = await server({ cache: gappy })
  const owner = await other.authenticate(token)
  const ended = new Promise((resolve) => other.watch(owner.sessionId, resolve))
  await sessions.logout(owner)
  const { findLiveSessions } = store
  let failures = 0
  store.findLiveSessions = (...asked) => {
    if (failures === 2) return findLiveSessions(...asked)
    failures += 1
    return Promise.reject(new Error('gone for a moment'))
  }
  // A server's pause between two tries keeps no process.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  missed()
  t.equal(await ended, 'LOGGED_OUT')
  const warnings = logged.filter(({ err }) => err instanceof Error)
  t.equal(warnings.length, 1, 'one line, however often it is asked')
})

t.test('a login whose account is deleted meanwhile leaves no session', async (t) => {
  const { sessions, register, store } = await setUp(t)
  const { user } = await register()
  const { createSession } = store
  let created = ''
  store.createSession = async (session) => {
    await createSession(session)
    created = session.id
    await store.deleteUser(user.id)
  }
  await t.rejects(sessions.login({ username: 'Ada', password }, home), { code: 'BAD_CREDENTIALS' })
  t.equal(await store.findSession(created), undefined)
})

t.test('an end that nobody told of is told to all by the server that finds it', async (t) => {
  const { sessions, register, server, store, pass } = await setUp(t)
  const { token } = await register()
  const other = await server()
  const owner = await other.authenticate(token)
  const ended = new Promise((resolve) => other.watch(owner.sessionId, resolve))
  sessions.watch(owner.sessionId, () => {})
  await store.deleteSession(owner.sessionId)
  pass(60_001)
  await t.rejects(sessions.assertLive(owner), { code: 'LOGGED_OUT' })
  t.equal(await ended, 'LOGGED_OUT')
})

t.test('a logout of which the store never said whether it did it is looked for', async (t) => {
  const { sessions, register, store } = await setUp(t)
  const { token } = await register()
  const owner = await sessions.authenticate(token)
  const ended = new Promise((resolve) => sessions.watch(owner.sessionId, resolve))
  const { deleteSession } = store
  store.deleteSession = async (id) => {
    await deleteSession(id)
    throw new Error('no answer')
  }
  await t.rejects(sessions.logout(owner), { message: 'no answer' })
  t.equal(await ended, 'LOGGED_OUT')
})

t.test('after a logout the other sessions of the user are cached again', async (t) => {
  const { sessions, register, looks, pass } = await setUp(t)
  const first = await register()
  const second = await sessions.login({ username: 'Ada', password }, home)
  await sessions.logout(ownerOf(first.token))
  const before = looks()
  const other = ownerOf(second.token)
  await sessions.assertLive(other)
  pass(1001)
  await sessions.assertLive(other)
  t.equal(looks() - before, 1)
})

for (const [fault, broken] of Object.entries({
  'does not hear': deaf,
  'has lost the cache': lost,
})) {
  t.test(`a server that ${fault} knows of a logout within a second`, async (t) => {
    const { sessions, register, server, cache, pass } = await setUp(t)
    const { token } = await register()
    const other = await server({ cache: broken(cache) })
    await sessions.logout(await other.authenticate(token))
    pass(1001)
    await t.rejects(other.authenticate(token), { code: 'UNAUTHORIZED' })
  })
}

t.test('an end that Redis does not take leaves no copy', async (t) => {
  const { register, server, cache, looks } = await setUp(t)
  const { token } = await register()
  const full: Cache = { ...cache, set: async () => false }
  const sessions = await server({ cache: full })
  await sessions.logout(await sessions.authenticate(token))
  const before = looks()
  await t.rejects((await server()).authenticate(token), { code: 'UNAUTHORIZED' })
  t.equal(looks(), before + 1, 'the store is asked')
})

t.test('a store that fails is asked again by the next', async (t) => {
  const { sessions, register, store } = await setUp(t)
  const { token } = await register()
  const { findSession } = store
  store.findSession = () => Promise.reject(new Error('gone for a moment'))
  await t.rejects(sessions.authenticate(token), { message: 'gone for a moment' })
  store.findSession = findSession
  t.match(await sessions.authenticate(token), { userId: String })
})

t.test('a network that fails too often with a name is locked; a success begins anew', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  await register()
  const login = (candidate: string) =>
    sessions.login({ username: 'ADA', password: candidate }, home)

  for (const _ of [1, 2]) await t.rejects(login('wrong'), { code: 'BAD_CREDENTIALS' })
  t.match(await login(password), { user: { username: 'Ada' } })
  for (const _ of [1, 2, 3]) await t.rejects(login('wrong'), { code: 'BAD_CREDENTIALS' })
  pass(60_000)
  await t.rejects(login(password), { code: 'RATE_LIMITED', statusCode: 429, retryAfter: 240 })
  pass(240_000)
  t.match(await login(password), { user: { username: 'Ada' } })
})

t.test('a stranger who is locked locks nobody else out', async (t) => {
  const { sessions, register } = await setUp(t)
  await register()
  const stranger = '198.51.100.1'
  const wrong = () => sessions.login({ username: 'Ada', password: 'wrong' }, stranger)
  for (const _ of [1, 2, 3]) await t.rejects(wrong(), { code: 'BAD_CREDENTIALS' })
  await t.rejects(wrong(), { code: 'RATE_LIMITED' })
  for (const network of [home, '203.0.113.9']) {
    t.match(await sessions.login({ username: 'Ada', password }, network), { token: String })
  }
})

t.test('no limit tells that a username and an email belong together', async (t) => {
  const { sessions, register } = await setUp(t)
  await register()
  const outcome = (login: { username: string } | { email: string }, network: string) =>
    sessions.login({ ...login, password: 'wrong' }, network).catch(({ code }) => code)
  // Of each pair only the first is locked, with every way to write it; the accounts of the second
  // pair do not exist.
  for (const [username, emails] of [
    ['ada', ['ada@example.org', '\uff21da@example.org', 'ADA@EXAMPLE.ORG']],
    ['bob', ['bob@example.org', '\uff22ob@example.org', 'BOB@EXAMPLE.ORG']],
  ] as const) {
    for (const _ of [1, 2, 3]) t.equal(await outcome({ username }, home), 'BAD_CREDENTIALS')
    t.equal(await outcome({ username }, home), 'RATE_LIMITED')
    for (const email of emails) t.equal(await outcome({ email }, home), 'BAD_CREDENTIALS', email)
    for (const email of emails) t.equal(await outcome({ email }, home), 'RATE_LIMITED', email)
  }
  // Nor does the slowing down of an account.
  for (let n = 0; n < 100; n++) await outcome({ username: 'ada' }, `network ${n}`)
  t.equal(await outcome({ username: 'ada' }, 'another'), 'RATE_LIMITED')
  t.equal(await outcome({ email: 'ada@example.org' }, 'another'), 'BAD_CREDENTIALS')
})

t.test('100 failures in an hour slow guessing down, and no more', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  await register()
  const login = (candidate: string, network: string) =>
    sessions.login({ username: 'Ada', password: candidate }, network)
  const guess = (n: number) =>
    t.rejects(login('wrong', `network ${n}`), { code: 'BAD_CREDENTIALS' })
  for (let n = 0; n < 99; n++) await guess(n)
  t.match(await login(password, 'a hotel'), { token: String }, 'not before')
  await guess(99)
  for (let n = 100; n < 200; n++) {
    await t.rejects(login('wrong', `network ${n}`), { code: 'RATE_LIMITED', retryAfter: 1 })
  }
  pass(30_000)
  for (let n = 100; n < 200; n++) await guess(n)
  await t.rejects(login(password, 'an airport'), { code: 'RATE_LIMITED', retryAfter: 30 })
  pass(29_999)
  await t.rejects(login(password, 'an airport'), { code: 'RATE_LIMITED', retryAfter: 1 })
  pass(1)
  t.match(await login(password, 'an airport'), { token: String }, 'a wait of at most 30 s')
  t.match(await login(password, 'an airport'), { token: String }, 'which is known from then on')
  t.match(await login(password, home), { token: String }, 'as where the account was registered')
  pass(3_600_000)
  t.match(await login(password, 'a train'), { token: String }, 'an hour later it is over')
})

t.test('a network is known for 30 days after its last login', async (t) => {
  const { sessions, register, pass } = await setUp(t)
  await register()
  const login = (candidate: string, network: string) =>
    sessions.login({ username: 'Ada', password: candidate }, network)
  const attack = async () => {
    for (let n = 0; n < 100; n++) {
      await login('wrong', `network ${n}`).catch(() => {})
    }
  }
  pass(29 * dayMs)
  await login(password, home)
  pass(29 * dayMs)
  await attack()
  t.match(await login(password, home), { token: String })
  pass(30 * dayMs + 1)
  await attack()
  await t.rejects(login(password, home), { code: 'RATE_LIMITED' })
})

t.test('an unknown account is locked just the same', async (t) => {
  const { sessions } = await setUp(t)
  const login = (username: string) => sessions.login({ username, password }, home)
  for (const name of ['nobody', 'NOBODY', 'Nobody']) {
    await t.rejects(login(name), { code: 'BAD_CREDENTIALS' })
  }
  await t.rejects(login('nobody'), { code: 'RATE_LIMITED' })
})

t.test('with its limit off, no number of failed logins locks or slows', async (t) => {
  const { register, server } = await setUp(t)
  await register()
  const sessions = await server({ maxLoginFailures: Number.POSITIVE_INFINITY })
  const login = (candidate: string) =>
    sessions.login({ username: 'Ada', password: candidate }, 'elsewhere')
  for (let n = 0; n < 120; n++) await t.rejects(login('wrong'), { code: 'BAD_CREDENTIALS' })
  t.match(await login(password), { token: String })
})

t.test('guesses at once get no further than guesses one by one', async (t) => {
  const { sessions, register } = await setUp(t)
  await register()
  const guesses = [...Array.from({ length: 30 }, (_, i) => `wrong ${i}`), password]
  const results = await Promise.allSettled(
    guesses.map((guess) => sessions.login({ username: 'Ada', password: guess }, home)),
  )
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 0)
})

t.test('many right logins at once are all let in', async (t) => {
  const { sessions, register } = await setUp(t)
  await register()
  const logins = Array.from({ length: 30 }, () =>
    sessions.login({ username: 'Ada', password }, home),
  )
  const tokens = (await Promise.all(logins)).map(({ token }) => token)
  t.equal(new Set(tokens).size, 30)
})

t.test(
  'a spent token that is used again and a session that ends are events in the log',
  async (t) => {
    const { sessions, register, pass, logged } = await setUp(t)
    const { user, refreshToken } = await register()
    const sessionId = refreshToken.split('.')[0]
    await sessions.refresh(refreshToken, home)
    pass(10_001)
    const thief = '198.51.100.1'
    await t.rejects(sessions.refresh(refreshToken, thief), { code: 'BAD_REFRESH_TOKEN' })
    const of = { userId: user.id, sessionId, network: thief }
    t.match(logged, [
      { event: 'token-reused', ...of },
      { event: 'session-ended', code: 'TOKEN_REUSED', ...of },
    ])
    t.notMatch(JSON.stringify(logged), refreshToken)
  },
)

t.test('a failed login, a lockout and a slowing down are events in the log', async (t) => {
  const { sessions, register, logged } = await setUp(t)
  const { user } = await register()
  const secret = 'canary-password'
  const attempt = (name: string, network: string) =>
    sessions.login({ username: name, password: secret }, network).catch(() => {})
  await attempt('nobody-canary', home)
  for (let n = 0; n < 4; n++) await attempt('Ada', home)
  for (let n = 0; n < 100; n++) await attempt('Ada', `network ${n}`)
  const of = (event: string) => logged.filter((line) => line.event === event)
  t.equal(of('login-failed').length, 1 + 3 + 97)
  t.match(of('login-failed').slice(0, 2), [
    { event: 'login-failed', userId: undefined, network: home },
    { event: 'login-failed', userId: user.id, network: home },
  ])
  t.match(of('login-locked'), [{ userId: user.id, network: home, seconds: 300 }])
  t.match(of('login-slowed'), [{ userId: user.id }])
  t.notMatch(JSON.stringify(logged), /canary/)
})

t.test('of two registrations that share one name at most one is there', async (t) => {
  const { sessions } = await setUp(t)
  const results = await Promise.allSettled([
    sessions.register({ username: 'Bob', email: 'bob@example.org', password }, home),
    sessions.register({ username: 'bob', email: 'other@example.org', password }, home),
    sessions.register({ username: 'other', email: 'BOB@example.org', password }, home),
    sessions.register({ username: 'Carol', email: 'carol@example.org', password }, home),
  ])
  t.strictSame(
    results.map((result) =>
      result.status === 'fulfilled' ? result.value.user.username : result.reason.code,
    ),
    ['Bob', 'USER_TAKEN', 'USER_TAKEN', 'Carol'],
  )
})
