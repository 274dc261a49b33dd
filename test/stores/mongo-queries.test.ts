import { type Db, type Document, MongoClient, MongoServerError } from 'mongodb'
import t from 'tap'
import { newId } from '../../src/ids.js'
import { createMongoStore } from '../../src/stores/mongo.js'
import type { Store } from '../../src/stores/store.js'
import { storeContract } from './contract.js'
import { type Index, planOf, type Query, shapeOf, watchQueries } from './mongo-queries.js'

const uri = process.env.MONGODB_URI
const noSuchCommand = 59

t.test('a query without an index is told apart from one with an index', async (t) => {
  const indexes: Index[] = [
    { name: '_id_', key: { _id: 1 } },
    { name: 'list', key: { userId: 1, updatedAt: -1, _id: -1 } },
    { name: 'owned', key: { owner: 1 }, sparse: true },
  ]
  const newest = { updatedAt: -1, _id: -1 }
  const rows: [filter: Document, sort: Document, index: string | undefined, sorts: boolean][] = [
    [{}, {}, undefined, false],
    [{ title: 'A' }, {}, undefined, false],
    [{ updatedAt: new Date() }, {}, undefined, false],
    [{ userId: { $ne: 'a' } }, {}, undefined, false],
    [{ userId: { $exists: true } }, {}, undefined, false],
    [{ owner: null }, {}, undefined, false],
    [{ owner: { $exists: false } }, {}, undefined, false],
    [{ $or: [{ owner: 'a' }, { title: 'A' }] }, {}, undefined, false],
    [{ owner: { $exists: true } }, {}, 'owned', false],
    [{ $or: [{ owner: 'a' }, { _id: 'b' }] }, {}, 'owned _id_', false],
    [{ _id: 'a', title: null }, {}, '_id_', false],
    [{ _id: { $in: ['a'] } }, {}, '_id_', false],
    [{ userId: 'a' }, newest, 'list', false],
    [{ userId: 'a' }, { updatedAt: 1, _id: 1 }, 'list', false],
    [{ userId: 'a', updatedAt: { $lt: new Date() } }, newest, 'list', false],
    [{ userId: 'a' }, { updatedAt: -1, _id: 1 }, 'list', true],
    [{ userId: 'a' }, { _id: -1 }, 'list', true],
    [{ userId: { $in: ['a', 'b'] } }, newest, 'list', true],
  ]
  for (const [filter, sort, index, sorts] of rows) {
    const name = JSON.stringify([filter, sort])
    const plan = planOf({ filter, sort }, indexes)
    t.equal(plan.index, index, name)
    if (index) t.equal(plan.sorts, sorts, name)
  }
})

/** Queries that sort what they found, and why that is little. */
const sortedAfterwards: Readonly<Record<string, string>> = {
  'messages.find {activeIn} by seq whole': 'the replies of one chat that have not ended',
  'messages.find {leaseUntil $lte} by createdAt, seq whole': 'the replies of servers that died',
}

/** Queries that read whole documents, because every field of the row is used. */
const readWhole = new Set([
  'meta.find {_id} whole',
  'users.find {_id, deleting $exists} whole',
  'users.find {usernameKey} whole',
  'users.find {emailKey} whole',
  'sessions.find {_id} whole',
  'chats.find {_id, user} whole',
  'chats.findAndModify {_id, user} whole',
  'messages.find {_id} whole',
  'messages.find {_id, chat, user} whole',
  'messages.find {_id, user, role} whole',
  'messages.find {chat, seq} whole',
  'messages.find {chat} by seq whole',
  'messages.find {chat, seq $lt} by seq whole',
  'messages.find {activeIn} by seq whole',
  'messages.find {user, activeIn $exists} whole',
  'messages.find {leaseUntil $lte} by createdAt, seq whole',
  'messages.find {_id, status $in} whole',
  'messages.findAndModify {_id, status $in} whole',
  'messages.findAndModify {_id, status $in, epoch} whole',
  'messages.findAndModify {_id, status $in, owner} whole',
  'messages.findAndModify {_id, status $in, owner $exists} whole',
  'messages.findAndModify {_id, status $in, epoch, owner} whole',
  'messages.findAndModify {_id, status $in, epoch, owner, leaseUntil} whole',
])

if (!uri) {
  t.test('MongoDB', { skip: 'MONGODB_URI is not set: see test/services' }, async () => {})
} else {
  t.test('every query of the store is answered by an index', async (t) => {
    const client = new MongoClient(uri, { monitorCommands: true })
    const db = client.db(`test-${newId()}`)
    t.teardown(async () => {
      await db.dropDatabase()
      await client.close(true)
    })
    // Only the first start looks for another application's documents.
    await createMongoStore(db)
    const queries = watchQueries(client)
    const store = await createMongoStore(db)
    const called = new Set<string>()
    await t.test('while it does all it can', async (t) => {
      storeContract(t, async () => namingCalls(store, called))
    })
    const methods = Object.keys(store)
    t.strictSame([...called].sort(), [...methods].sort(), 'the contract calls every method')

    const shapes = new Map(queries.map((query) => [shapeOf(query), query]))
    const indexes = await indexesOf(db)
    const used = new Set<string>()
    for (const [shape, query] of shapes) {
      const { index, sorts } = planOf(query, indexes.get(query.collection) ?? [])
      t.ok(index, `${shape}: ${index ?? 'has no index'}`)
      used.add(`${query.collection} ${index}`)
      if (sorts) t.ok(sortedAfterwards[shape], `${shape}: sorted after it was found`)
      if (query.whole) t.ok(readWhole.has(shape), `${shape}: read whole on purpose`)
    }
    for (const shape of [...Object.keys(sortedAfterwards), ...readWhole]) {
      t.ok(shapes.has(shape), `${shape}: still asked`)
    }
    const steps = [...methods, 'finishUserDeletions']
    for (const [collection, made] of indexes) {
      for (const { name } of made.filter(({ name }) => name !== '_id_')) {
        t.ok(used.has(`${collection} ${name}`), `${collection} ${name}: serves a query`)
        t.ok(steps.includes(name.split('_')[0] ?? ''), `${name}: named by what needs it`)
      }
    }

    await t.test('as the server plans it', async (t) => {
      for (const [shape, query] of shapes) {
        const plan = await explained(db, query)
        if (plan === undefined)
          return t.comment('this server does not explain: told by shape alone')
        t.notMatch(plan, /"COLLSCAN"/, shape)
        if (!sortedAfterwards[shape]) t.notMatch(plan, /"SORT"/, shape)
      }
    })
  })

  t.test('a query without an index is found, whatever its command', async (t) => {
    const client = new MongoClient(uri, { monitorCommands: true })
    const db = client.db(`test-${newId()}`)
    t.teardown(async () => {
      await db.dropDatabase()
      await client.close(true)
    })
    await createMongoStore(db)
    const queries = watchQueries(client)
    const messages = db.collection('messages')
    await messages.find({ role: 'user' }).toArray()
    await messages.updateOne({ model: 'eliza' }, { $set: { model: 'other' } })
    await messages.deleteMany({ status: { $in: ['error'] } })
    await messages.findOneAndDelete({ fingerprint: 'x' })
    await messages.aggregate([{ $match: { model: 'x' } }]).toArray()
    const indexes = (await indexesOf(db)).get('messages') ?? []
    t.strictSame(
      queries.map((query) => [shapeOf(query), planOf(query, indexes).index]),
      [
        ['messages.find {role} whole', undefined],
        ['messages.update {model}', undefined],
        ['messages.delete {status $in}', undefined],
        ['messages.findAndModify {fingerprint} whole', undefined],
        ['messages.aggregate {model}', undefined],
      ],
    )
  })
}

async function indexesOf(db: Db): Promise<Map<string, Index[]>> {
  const names = ['meta', 'users', 'sessions', 'chats', 'messages']
  const rows = names.map(async (name) => {
    const made = await db.collection(name).indexes()
    return [name, made as Index[]] as const
  })
  return new Map(await Promise.all(rows))
}

/** The server's own plan of a query; undefined where it has no `explain`. */
async function explained(db: Db, { alone }: Query): Promise<string | undefined> {
  try {
    const { queryPlanner } = await db.command({ explain: alone, verbosity: 'queryPlanner' })
    return JSON.stringify(queryPlanner?.winningPlan)
  } catch (error) {
    if (error instanceof MongoServerError && error.code === noSuchCommand) return undefined
    throw error
  }
}

/** The same store; the name of each method that is called is added to `called`. */
function namingCalls(store: Store, called: Set<string>): Store {
  return new Proxy(store, {
    get(target, name) {
      if (name in target) called.add(String(name))
      return Reflect.get(target, name)
    },
  })
}
