import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { mock } from 'node:test'
import Fastify from 'fastify'
import Libsql from 'libsql'
import t, { type Test } from 'tap'
import db from '../../plugins/db.js'
import observability from '../../plugins/observability.js'
import { parseConfig } from '../../src/config.js'
import { outsideServices } from '../services/app.js'
import { eventually } from '../services/eventually.js'
import { aSession } from '../stores/rows.js'

/** A bare Fastify with the plugin alone, and what it logs. */
function newApp(t: Test, environment: Record<string, string>) {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => lines.push(line) } } })
  app.decorate('config', parseConfig(environment))
  app.register(observability)
  app.register(db)
  t.teardown(() => app.close())
  return { app, log: () => lines.join('') }
}

t.test(
  'without MONGODB_URI the store is SQLite under DATA_DIR, which one process holds',
  async (t) => {
    const DATA_DIR = join(t.testdir(), 'data')
    const first = newApp(t, { DATA_DIR })
    await first.app.ready()
    await t.resolves(first.app.store.ping())
    t.match(first.log(), `store: SQLite in ${DATA_DIR}; set MONGODB_URI to use MongoDB`)

    const second = newApp(t, { DATA_DIR })
    await t.rejects(async () => await second.app.ready(), {
      message: /in use by process.*set DATA_DIR/,
    })
    await second.app.close()
    t.ok(existsSync(join(DATA_DIR, 'server.pid')), 'the refused one leaves the hold as it is')

    await first.app.close()
    await t.rejects(first.app.store.ping(), { code: 'STORE_UNAVAILABLE' })
    const third = newApp(t, { DATA_DIR })
    await third.app.ready()
    t.equal(third.app.jwtSecret, first.app.jwtSecret, 'the secret is kept')
    t.notOk(first.log().includes(first.app.jwtSecret), 'and never logged')
  },
)

t.test('a database that cannot be opened is refused, and its directory is released', async (t) => {
  const DATA_DIR = t.testdir()
  const newer = new Libsql(join(DATA_DIR, 'chat.db'))
  newer.exec('PRAGMA user_version = 999')
  newer.close()
  for (const _ of ['first', 'second']) {
    const { app } = newApp(t, { DATA_DIR })
    await t.rejects(async () => await app.ready(), {
      message: /chat\.db cannot be used.*newer version/,
    })
  }
})

t.test('JWT_SECRET is used where it is set, and none is stored', async (t) => {
  const DATA_DIR = t.testdir()
  const { app } = newApp(t, { DATA_DIR, JWT_SECRET: 'a secret of somebody' })
  await app.ready()
  t.equal(app.jwtSecret, 'a secret of somebody')
  t.notOk(existsSync(join(DATA_DIR, 'jwt-secret')))
})

t.test('expired sessions are removed every hour', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const { app } = newApp(t, { DATA_DIR: t.testdir() })
  await app.ready()
  const expired = aSession({ expiresAt: new Date(1) })
  const alive = aSession()
  await app.store.createSession(expired)
  await app.store.createSession(alive)
  mock.timers.tick(3_600_000)
  await eventually('the expired one is gone', async () => {
    return (await app.store.findSession(expired.id)) === undefined
  })
  t.strictSame(await app.store.findSession(alive.id), alive)
})

t.test('a MongoDB that does not answer is named without its credentials', async (t) => {
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const address = closed.address()
  const port = typeof address === 'object' ? address?.port : undefined
  closed.close()
  const { app, log } = newApp(t, {
    DATA_DIR: t.testdir(),
    MONGODB_URI: `mongodb://ada:canary-password@127.0.0.1:${port}/chat?authSource=admin`,
    START_TIMEOUT_MS: '500',
  })
  const failure = await app.ready().then(
    () => undefined,
    (error: Error) => error,
  )
  t.match(failure?.message, `MONGODB_URI: MongoDB at 127.0.0.1:${port}/chat cannot be used: `)
  t.match(failure?.message, 'unset it to use SQLite')
  t.notMatch(`${failure?.message}${failure?.stack}${log()}`, /canary|ada:/)
})

t.test(
  'with MONGODB_URI the store is MongoDB, and the secret is still under DATA_DIR',
  { skip: process.env.MONGODB_URI ? false : 'MONGODB_URI is not set: see test/services' },
  async (t) => {
    const DATA_DIR = join(t.testdir(), 'data')
    const { MONGODB_URI = '' } = outsideServices(t.testdirName)
    const [first, second] = [1, 2].map(() => newApp(t, { DATA_DIR, MONGODB_URI }))
    if (!first || !second) return t.fail('two were made')
    await Promise.all([first.app.ready(), second.app.ready()])
    await t.resolves(first.app.store.ping())
    t.equal(first.app.jwtSecret, second.app.jwtSecret)
    t.match(first.log(), /store: MongoDB at .*; unset MONGODB_URI to use SQLite/)
    t.notOk(existsSync(join(DATA_DIR, 'chat.db')))
    await first.app.close()
    await t.rejects(first.app.store.ping(), { code: 'STORE_UNAVAILABLE' })
    await t.resolves(second.app.store.ping())
  },
)
