import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MongoClient } from 'mongodb'
import t, { type Test } from 'tap'
import { outsideServices } from '../services/app.js'
import { startMongoStandIn } from '../services/mongo-stand-in.js'
import { startRefused } from '../services/server-process.js'

/** The one line that a server which refuses to start prints. */
async function refusal(t: Test, settings: Record<string, string>): Promise<string> {
  const DATA_DIR = await mkdtemp(join(tmpdir(), 'chat-refused-'))
  t.teardown(() => rm(DATA_DIR, { recursive: true, force: true }))
  const { status, output } = await startRefused({ DATA_DIR, LOG_LEVEL: 'silent', ...settings })
  t.equal(status, 1)
  t.equal(output.trim().split('\n').length, 1, output)
  return output
}

// The driver itself refuses 3.6.
for (const [version, wireVersion] of [
  ['3.6.23', 6],
  ['4.2.24', 8],
] as const) {
  t.test(
    `a MongoDB ${version} is refused, and the error names the version that is needed`,
    async (t) => {
      const MONGODB_URI = await startMongoStandIn(t, version, wireVersion)
      // Whoever waited for another version would be killed before this limit.
      const output = await refusal(t, { MONGODB_URI, START_TIMEOUT_MS: '600000' })
      t.match(output, /^MONGODB_URI: .*4\.4 or later is wanted/)
    },
  )
}

const uri = outsideServices(`refused-${Date.now()}`).MONGODB_URI
if (!uri) t.test('databases that are refused', { skip: 'MONGODB_URI is not set' }, async () => {})
else {
  for (const name of ['users', 'sessions']) {
    t.test(
      `a database with another application’s ${name} is refused, and left as it is`,
      async (t) => {
        const client = await MongoClient.connect(uri)
        t.teardown(async () => {
          await client.db().dropDatabase()
          await client.close()
        })
        const theirs = { _id: 'x', login: 'ada', roles: ['admin'] }
        await client.db().collection<typeof theirs>(name).insertOne(theirs)
        const output = await refusal(t, { MONGODB_URI: uri })
        t.match(output, new RegExp(`^MONGODB_URI: .*database "refused.*collection "${name}"`))
        t.match(output, /_id, login, roles.*another application.*Name another database/)
        const left = await client.db().listCollections().toArray()
        t.same(
          left.map((one) => one.name),
          [name],
        )
      },
    )
  }

  for (const [version, told] of [
    [
      2,
      /layout version 2, of release 0\.1.*release 0\.1 on it, or name another database in MONGODB_URI/,
    ],
    [9, /layout version 9.*start the newer program/],
  ] as const) {
    t.test(`a database of layout version ${version} is refused, and left as it is`, async (t) => {
      const client = await MongoClient.connect(uri)
      t.teardown(async () => {
        await client.db().dropDatabase()
        await client.close()
      })
      const db = client.db()
      const schema = { _id: 'schema', version }
      const user = { _id: '0123456789abcdef01234567', username: 'Ada', passwordHash: '$2b$' }
      await db.collection<typeof schema>('meta').insertOne(schema)
      await db.collection<typeof user>('users').insertOne(user)
      const output = await refusal(t, { MONGODB_URI: uri })
      t.match(output, /^MONGODB_URI: .*its database "refused/)
      t.match(output, told)
      const left = await db.listCollections().toArray()
      t.same(left.map(({ name }) => name).sort(), ['meta', 'users'])
      t.same(await db.collection('meta').find().toArray(), [schema])
      t.same(await db.collection('users').find().toArray(), [user])
    })
  }
}
