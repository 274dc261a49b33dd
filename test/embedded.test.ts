import { join } from 'node:path'
import t from 'tap'
import { embedded } from './services/app.js'

/** The suites of the whole app, which run on the real services where the environment names them. */
const suites = [
  'auth/authority',
  'routes/auth',
  'routes/chats',
  'routes/messages',
  'sockets/sockets',
]

if (process.env.MONGODB_URI || process.env.REDIS_URL) {
  t.setTimeout(600_000)
  for (const suite of suites) {
    t.spawn(
      process.execPath,
      ['--enable-source-maps', join(import.meta.dirname, `${suite}.test.js`)],
      {
        name: `${suite} on the embedded parts`,
        env: { ...process.env, ...embedded },
      },
    )
  }
} else {
  t.plan(0, 'they run on the embedded parts by themselves')
}
