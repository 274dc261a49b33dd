import t from 'tap'
import { isSessionEnd, LiveSessions } from '../../src/auth/live-sessions.js'
import { sessionKey, sessionsEndingKey } from '../../src/cache/keys.js'
import { createMemoryCache } from '../../src/cache/memory.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import type { SessionRow } from '../../src/stores/store.js'

const rememberMs = 60_000
const session = { sessionId: 'session-1', userId: 'ada' }
const { key } = sessionKey(session.sessionId)
const ending = sessionsEndingKey(session.userId)

const sqlite = openSqliteStore(t.testdir())
t.teardown(() => sqlite.close())

/** What is known of sessions, with a clock that is moved by hand; the store has those in `rows`. */
function setUp() {
  let time = 1_000_000
  const now = () => time
  const rows = new Map<string, SessionRow>()
  const looks: string[] = []
  const reviews: string[][] = []
  /** What happens while the store is asked. */
  const during = { look: async () => {} }
  const copies: [string, string, number][] = []
  const memory = createMemoryCache({ now })
  const cache: typeof memory = {
    ...memory,
    setIfAbsent: (...copy) => {
      copies.push(copy)
      return memory.setIfAbsent(...copy)
    },
  }
  const store: typeof sqlite = {
    ...sqlite,
    findSession: async (id) => {
      looks.push(id)
      await during.look()
      return rows.get(id)
    },
    findLiveSessions: async (ids, at) => {
      reviews.push([...ids])
      return ids.filter((id) => (rows.get(id)?.expiresAt ?? 0) > at)
    },
  }
  const live = new LiveSessions({ store, cache, rememberMs, now })
  return {
    ...{ live, cache, looks, reviews, copies, during, now },
    keep: (lifeMs = 3_600_000, id = session.sessionId) => {
      const rest = { generation: 0, rotatedAt: new Date(time), spentAt: [] }
      rows.set(id, { ...rest, id, userId: session.userId, expiresAt: new Date(time + lifeMs) })
    },
    pass: (ms: number) => {
      time += ms
    },
  }
}

t.test('the codes of ends are told from users', async (t) => {
  for (const code of ['LOGGED_OUT', 'TOKEN_REUSED', 'ACCOUNT_DELETED'])
    t.equal(isSessionEnd(code), true)
  for (const other of ['ada', '', undefined]) t.equal(isSessionEnd(other), false)
})

t.test('a session that the store has is live, for its user', async (t) => {
  const { live, keep } = setUp()
  keep()
  t.equal(await live.isLive(session), true)
  t.equal(await live.isLive({ ...session, userId: 'eve' }), false)
  t.equal(await live.isLive({ ...session, sessionId: 'other' }), false)
})

t.test('a session is live until it expires', async (t) => {
  const { live, keep, pass } = setUp()
  keep(5000)
  pass(4999)
  t.equal(await live.isLive(session), true)
  const other = setUp()
  other.keep(5000)
  other.pass(5000)
  t.equal(await other.live.isLive(session), false)
})

t.test('what was found is believed for a second from when it was asked for', async (t) => {
  const { live, keep, pass, looks, cache, during } = setUp()
  keep()
  // The look itself takes a while.
  during.look = async () => pass(400)
  await live.isLive(session)
  await cache.delete(key)
  pass(599)
  t.equal(await live.isLive(session), true)
  t.equal(looks.length, 1)
  pass(2)
  t.equal(await live.isLive(session), true)
  t.equal(looks.length, 2)
})

t.test('what took longer than a second to find is not believed later', async (t) => {
  const { live, keep, pass, looks, cache, during } = setUp()
  keep()
  during.look = async () => pass(5000)
  t.equal(await live.isLive(session), true)
  await cache.delete(key)
  pass(2)
  await live.isLive(session)
  t.equal(looks.length, 2)
})

t.test('one look answers all who ask meanwhile', async (t) => {
  const { live, keep, looks } = setUp()
  keep()
  const answers = await Promise.all([live.isLive(session), live.isLive(session)])
  t.same(answers, [true, true])
  t.equal(looks.length, 1)
})

t.test('a copy in the cache is believed, and the store is not asked', async (t) => {
  const { live, cache, looks } = setUp()
  await cache.set(key, session.userId, 60_000)
  t.equal(await live.isLive(session), true)
  t.same(looks, [])
})

t.test(
  'what the store has is copied to the cache, for no longer than the session lives',
  async (t) => {
    const { live, keep, copies } = setUp()
    keep(5000)
    await live.isLive(session)
    t.same(copies, [[key, session.userId, 5000]])
    const other = setUp()
    other.keep()
    await other.live.isLive(session)
    t.same(other.copies, [[key, session.userId, sessionKey('').ttlMs]])
  },
)

t.test('while sessions of the user are being ended, the store decides', async (t) => {
  const { live, cache, keep, looks, copies } = setUp()
  await cache.set(key, session.userId, 60_000)
  await cache.set(ending.key, '1', ending.ttlMs)
  keep()
  t.equal(await live.isLive(session), true)
  t.equal(looks.length, 1)
  t.same(copies, [], 'and nothing is copied')
  const other = setUp()
  await other.cache.set(key, session.userId, 60_000)
  await other.cache.set(ending.key, '1', ending.ttlMs)
  t.equal(await other.live.isLive(session), false)
})

for (const isEnding of [false, true]) {
  const when = isEnding ? ', while others of the user are being ended' : ''
  t.test(`a tombstone in the cache ends the session${when}`, async (t) => {
    const { live, cache, keep, looks } = setUp()
    keep()
    await cache.set(key, 'TOKEN_REUSED', 60_000)
    if (isEnding) await cache.set(ending.key, '1', ending.ttlMs)
    const told: string[] = []
    live.watch(session.sessionId, (code) => told.push(code))
    t.equal(await live.isLive(session), false)
    t.same(told, ['TOKEN_REUSED'])
    t.equal(live.endOf(session.sessionId), 'TOKEN_REUSED')
    t.same(looks, [])
  })
}

t.test('a tombstone that is written while the store is asked wins', async (t) => {
  const { live, cache, keep, during } = setUp()
  keep()
  during.look = async () => void (await cache.set(key, 'LOGGED_OUT', 60_000))
  t.equal(await live.isLive(session), false)
  t.equal(live.endOf(session.sessionId), 'LOGGED_OUT')
})

t.test('where the cache does not say what it holds, the store is believed', async (t) => {
  const { live, cache, keep } = setUp()
  keep()
  cache.setIfAbsent = async () => false
  t.equal(await live.isLive(session), true)
})

t.test('an end that is heard while the store is asked wins', async (t) => {
  const { live, keep, during } = setUp()
  keep()
  during.look = async () => live.end(session.sessionId, 'LOGGED_OUT')
  t.equal(await live.isLive(session), false)
})

t.test(
  'an end that was heard is remembered as long as a token lives, and nobody is asked',
  async (t) => {
    const { live, keep, looks, pass } = setUp()
    keep()
    live.end(session.sessionId, 'ACCOUNT_DELETED')
    pass(rememberMs - 1)
    t.equal(await live.isLive(session), false)
    t.equal(live.endOf(session.sessionId), 'ACCOUNT_DELETED')
    t.same(looks, [])
    pass(2)
    t.equal(live.endOf(session.sessionId), undefined)
    t.equal(await live.isLive(session), true)
  },
)

t.test('each watcher of a session is told of its end once, with the first reason', async (t) => {
  const { live } = setUp()
  const told: string[] = []
  live.watch(session.sessionId, (code) => told.push(`first ${code}`))
  live.watch(session.sessionId, (code) => told.push(`second ${code}`))
  live.watch('other', (code) => told.push(`other ${code}`))
  live.end(session.sessionId, 'LOGGED_OUT')
  live.end(session.sessionId, 'TOKEN_REUSED')
  t.same(told, ['first LOGGED_OUT', 'second LOGGED_OUT'])
  t.equal(live.endOf(session.sessionId), 'LOGGED_OUT')
  t.equal(live.isWatched(session.sessionId), false)
  t.equal(live.isWatched('other'), true)
})

t.test(
  'a watcher that was told of an end is not told when it is heard again much later',
  async (t) => {
    const { live, pass } = setUp()
    const told: string[] = []
    live.watch(session.sessionId, (code) => told.push(code))
    live.end(session.sessionId, 'LOGGED_OUT')
    pass(rememberMs + 1)
    live.end(session.sessionId, 'LOGGED_OUT')
    t.same(told, ['LOGGED_OUT'])
  },
)

t.test('who watches a session that has ended is told at once, and is not kept', async (t) => {
  const { live } = setUp()
  live.end(session.sessionId, 'LOGGED_OUT')
  const told: string[] = []
  const unwatch = live.watch(session.sessionId, (code) => told.push(code))
  t.same(told, ['LOGGED_OUT'])
  t.equal(live.isWatched(session.sessionId), false)
  t.equal(unwatch(), undefined)
})

t.test('who has stopped watching is not told', async (t) => {
  const { live } = setUp()
  const told: string[] = []
  const first = live.watch(session.sessionId, () => told.push('first'))
  const second = live.watch(session.sessionId, () => told.push('second'))
  first()
  t.equal(live.isWatched(session.sessionId), true)
  live.watch(session.sessionId, () => told.push('third'))
  second()
  live.end(session.sessionId, 'LOGGED_OUT')
  t.same(told, ['third'])
})

t.test('a session that nobody watches any more is not watched', async (t) => {
  const { live } = setUp()
  const unwatch = live.watch(session.sessionId, () => {})
  unwatch()
  t.equal(live.isWatched(session.sessionId), false)
  live.watch(session.sessionId, () => {})
  unwatch()
  t.equal(live.isWatched(session.sessionId), true, 'ending a watch twice ends no other')
})

t.test('watched sessions that the store does not have are lost', async (t) => {
  const { live, keep, reviews, pass } = setUp()
  t.same(await live.findLost(), [])
  t.same(reviews, [], 'it is not asked about none')
  const ids = Array.from({ length: 2000 }, (_, n) => `session-${n}`)
  for (const id of ids) live.watch(id, () => {})
  for (const id of ids) if (!id.endsWith('77')) keep(3_600_000, id)
  keep(5000, 'session-5')
  pass(5000)
  const lost = ids.filter((id) => id.endsWith('77') || id === 'session-5')
  t.same(await live.findLost(), lost)
  t.same(reviews, [ids.slice(0, 1000), ids.slice(1000)], 'a thousand at once')
})

t.test('a look whose entry was pushed out says that the session is not there', async (t) => {
  const { live, during } = setUp()
  let answer = () => {}
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  during.look = () => answered
  const asked = live.isLive(session)
  // As many other looks as entries are kept.
  const others = Array.from({ length: 100_000 }, (_, i) =>
    live.isLive({ ...session, sessionId: `other-${i}` }),
  )
  answer()
  t.equal(await asked, false)
  await Promise.allSettled(others)
})
