import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { BSON, type Db, MongoClient, ObjectId } from 'mongodb'
import t, { type Test } from 'tap'
import { newId } from '../../src/ids.js'
import { createMongoStore } from '../../src/stores/mongo.js'
import type { ChatRow, StoredTurn } from '../../src/stores/store.js'
import { eventually } from '../services/eventually.js'
import { storeContract } from './contract.js'
import { aChat, aSession, aTurn, aUser } from './rows.js'

const uri = process.env.MONGODB_URI

if (!uri) {
  t.plan(0, 'MONGODB_URI is not set: see test/services')
} else {
  /** A database that is dropped after the test. */
  const newDatabase = async (t: Test, client = new MongoClient(uri)) => {
    await client.connect()
    const db = client.db(`test-${newId()}`)
    t.teardown(async () => {
      await db.dropDatabase()
      await client.close(true)
    })
    return db
  }

  t.test('the contract', async (t) => {
    storeContract(t, async () => createMongoStore(await newDatabase(t)))
  })

  t.test('a checkpoint of a long reply sends what is new, not all of it', async (t) => {
    const client = new MongoClient(uri, { monitorCommands: true })
    const store = await createMongoStore(await newDatabase(t, client))
    const chat = aChat()
    await store.createChat(chat)
    const { id } = (await store.appendTurn(aTurn(chat, { owner: 'a' }))).reply
    const begun = { status: 'streaming', content: 'x'.repeat(1_000_000) } as const
    await store.updateReply(id, { status: ['queued'] }, begun)
    let sent = 0
    client.on('commandStarted', ({ command }) => {
      sent += BSON.calculateObjectSize(command)
    })
    client.on('commandSucceeded', ({ reply }) => {
      sent += BSON.calculateObjectSize(reply as object)
    })
    for (let n = 0; n < 5; n++) {
      const piece = { from: { content: begun.content.length + n, thinking: 0 }, content: 'y' }
      await store.checkpoint([{ id, owner: 'a', epoch: 1, thinking: '', tokens: n, ...piece }])
    }
    t.ok(sent > 0 && sent < 100_000, `${sent} bytes for 5 checkpoints`)
    const kept = await store.findMessage(chat.userId, chat.id, id)
    t.ok(kept?.content === `${begun.content}yyyyy`, 'and all of it is kept')
  })

  t.test('a message that was stored without its reply gets it when it is sent again', async (t) => {
    const db = await newDatabase(t)
    const store = await createMongoStore(db)
    const chat = aChat()
    await store.createChat(chat)
    const turn = aTurn(chat)
    await store.appendTurn(turn)
    await db.collection('messages').deleteOne({ _id: new ObjectId(turn.reply.id) })
    // Another turn leaves the lost reply's seq free.
    const next = await store.appendTurn(aTurn(chat))
    t.strictSame([next.message.seq, next.reply.seq], [3, 4])
    const again = await store.appendTurn(turn)
    t.strictSame(again, {
      message: { ...turn.message, seq: 1 },
      reply: { ...turn.reply, seq: 2 },
      created: true,
      chat: { ...chat, title: turn.title, messageCount: 4, updatedAt: turn.message.createdAt },
    })
    t.equal((await store.findChat(chat.userId, chat.id))?.messageCount, 4)
  })

  /** What a deletion writes first. */
  const markDeleted = (db: Db, { id, userId }: ChatRow) =>
    db
      .collection('chats')
      .updateOne(
        { _id: new ObjectId(id), user: new ObjectId(userId) },
        { $set: { deletedFrom: new ObjectId(userId) }, $unset: { user: '' } },
      )

  /** A turn whose storing was interrupted before its chat was updated. */
  const halfDone = async (t: Test) => {
    const db = await newDatabase(t)
    const store = await createMongoStore(db)
    const chat = aChat()
    await store.createChat(chat)
    const turn = aTurn(chat, { leaseUntil: new Date(1) })
    await store.appendTurn(turn)
    const { title, messageCount, updatedAt } = chat
    await db
      .collection('chats')
      .updateOne({ _id: new ObjectId(chat.id) }, { $set: { title, messageCount, updatedAt } })
    const find = () => store.findChat(chat.userId, chat.id)
    t.match(await find(), { title: null, messageCount: 0 })
    return { store, turn, find }
  }
  for (const [way, look] of [
    ['a repetition of it', ({ store, turn }) => store.appendTurn(turn)],
    ['a search for it', ({ store, turn }) => store.findTurn(turn.message.userId, turn.message.id)],
    ['its takeover', ({ store }) => store.findLapsedReplies(new Date(), 10)],
  ] as [string, (half: Awaited<ReturnType<typeof halfDone>>) => Promise<unknown>][]) {
    t.test(`a turn that did not update its chat is completed by ${way}`, async (t) => {
      const half = await halfDone(t)
      await look(half)
      const { turn, find } = half
      const updatedAt = turn.message.createdAt
      t.match(await find(), { title: turn.title, messageCount: 2, updatedAt })
    })
  }

  t.test('a title that was removed is not set again by an earlier turn', async (t) => {
    const store = await createMongoStore(await newDatabase(t))
    const chat = aChat()
    await store.createChat(chat)
    const { message } = await store.appendTurn(aTurn(chat))
    await store.updateChat(chat.userId, chat.id, { title: null }, new Date())
    t.equal((await store.findTurn(chat.userId, message.id))?.chat, undefined)
    t.match(await store.findChat(chat.userId, chat.id), { title: null })
  })

  t.test('nothing is read of a chat whose deletion was interrupted', async (t) => {
    const db = await newDatabase(t)
    const store = await createMongoStore(db)
    const chat = aChat()
    await store.createChat(chat)
    const turn = aTurn(chat)
    const { message, reply } = await store.appendTurn(turn)
    await markDeleted(db, chat)
    for (const { id } of [message, reply]) {
      t.equal(await store.findMessage(chat.userId, chat.id, id), undefined)
    }
    t.equal(await store.findTurn(chat.userId, message.id), undefined)
    t.strictSame(await store.listChats(chat.userId, 10), [])
    await store.finishDeletions()
    t.strictSame(await store.listMessages(chat.id, 10), [])
  })

  t.test('a deletion that a dead process began is finished', async (t) => {
    const db = await newDatabase(t)
    const store = await createMongoStore(db)
    const [retried, left] = [aChat(), aChat()]
    for (const chat of [retried, left]) {
      await store.createChat(chat)
      await store.appendTurn(aTurn(chat))
      await markDeleted(db, chat)
      t.equal(await store.findChat(chat.userId, chat.id), undefined)
    }
    t.equal(await store.deleteChat(retried.userId, retried.id), true, 'by its repetition')
    t.strictSame(await store.listMessages(retried.id, 10), [])
    t.equal(await store.deleteChat(retried.userId, retried.id), false)

    await createMongoStore(db)
    t.strictSame(await store.listMessages(left.id, 10), [], 'or at the next start')
    t.equal(await store.deleteChat(left.userId, left.id), false)
  })

  t.test('an account’s deletion that a dead process began is finished', async (t) => {
    const db = await newDatabase(t)
    const store = await createMongoStore(db)
    const user = aUser()
    const chat = aChat({ userId: user.id })
    await store.createUser(user)
    await store.createChat(chat)
    await store.createSession(aSession({ userId: user.id }))
    await store.appendTurn(aTurn(chat))
    await db
      .collection('users')
      .updateOne({ _id: new ObjectId(user.id) }, { $set: { deleting: true } })
    t.equal(await store.findUser(user.id), undefined, 'it is gone for everybody at once')
    await createMongoStore(db)
    t.strictSame(await store.listMessages(chat.id, 10), [])
    t.equal(await store.findChat(user.id, chat.id), undefined)
    t.strictSame(await store.deleteSessionsOf(user.id), [])
    t.equal(await store.deleteUser(user.id), false)
  })

  t.test(
    'a server that goes away is STORE_UNAVAILABLE, and used again when it is back',
    async (t) => {
      const { hostname, port } = new URL(uri)
      const sockets = new Set<Socket>()
      const proxy = createServer((socket) => {
        const upstream = connect(Number(port || 27017), hostname)
        for (const [from, to] of [
          [socket, upstream],
          [upstream, socket],
        ] as const) {
          sockets.add(from)
          from.pipe(to)
          // The end of either side closes the other.
          from.on('error', () => to.destroy()).on('close', () => to.destroy())
        }
      })
      const cut = async () => {
        const closed = once(proxy, 'close')
        proxy.close()
        for (const socket of sockets) socket.destroy()
        await closed
      }
      proxy.listen(0, '127.0.0.1')
      await once(proxy, 'listening')
      const address = proxy.address() as AddressInfo
      const client = new MongoClient(`mongodb://127.0.0.1:${address.port}`, {
        directConnection: true,
        serverSelectionTimeoutMS: 500,
      })
      const db = client.db(`test-${newId()}`)
      const store = await createMongoStore(db)
      const chat = aChat()
      await store.createChat(chat)

      await cut()
      const turn = aTurn(chat)
      const calls: (() => Promise<unknown>)[] = [
        () => store.ping(),
        () => store.findChat(chat.userId, chat.id),
        () => store.appendTurn(turn),
      ]
      for (const call of calls) {
        await t.rejects(call(), { code: 'STORE_UNAVAILABLE', statusCode: 503, retryable: true })
      }

      proxy.listen(address.port, '127.0.0.1')
      await once(proxy, 'listening')
      let stored: StoredTurn | undefined
      await eventually('the server is used again', async () => {
        stored = await store.appendTurn(turn).catch(() => undefined)
        return stored !== undefined
      })
      t.equal(stored?.created, true)
      t.equal((await store.listMessages(chat.id, 10)).length, 2)
      await db.dropDatabase()
      await store.close()
      await client.close(true)
      await cut()
    },
  )
}
