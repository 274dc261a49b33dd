import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Libsql from 'libsql'
import t from 'tap'
import { newId } from '../../src/ids.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import { eventually } from '../services/eventually.js'
import { storeContract } from './contract.js'
import { aChat, aSession, aTurn, aUser } from './rows.js'

t.test('the contract', async (t) => {
  const dir = t.testdir()
  storeContract(t, async () => openSqliteStore(dir))
})

t.test('of writes that come together one that fails undoes itself alone', async (t) => {
  const dir = t.testdir()
  const [chat, other] = [aChat(), aChat()]
  const store = openSqliteStore(dir)
  await store.createChat(chat)
  const replyResponses = [aTurn(chat), aTurn(other), aTurn(chat)] as const
  const [first, missing, second] = await Promise.allSettled(
    replyResponses.map((turn) => store.appendTurn(turn)),
  )
  t.match(missing, { status: 'rejected', reason: { code: 'CHAT_NOT_FOUND' } })
  t.match(first, { status: 'fulfilled', value: { message: { seq: 1 }, created: true } })
  t.match(second, { status: 'fulfilled', value: { message: { seq: 3 }, created: true } })
  const last = store.appendTurn(aTurn(chat))
  await store.close()
  t.match(await last, { message: { seq: 5 } }, 'what waits is stored by the closing')
  const again = openSqliteStore(dir)
  t.teardown(() => again.close())
  const seqs = (await again.listMessages(chat.id, 10)).map(({ seq }) => seq)
  t.strictSame(seqs, [1, 2, 3, 4, 5, 6])
  t.strictSame(await again.listMessages(other.id, 10), [])
})

t.test('what was stored is there after the store was opened again', async (t) => {
  const dir = t.testdir()
  const [user, chat] = [aUser(), aChat()]
  const store = openSqliteStore(dir)
  await store.createUser(user)
  await store.createChat(chat)
  const { message } = await store.appendTurn(aTurn(chat))
  await store.close()
  const again = openSqliteStore(dir)
  t.teardown(() => again.close())
  t.strictSame(await again.findUser(user.id), user)
  t.strictSame(await again.findMessage(chat.userId, chat.id, message.id), message)
})

t.test(
  'replies that a dead process left lapse at the next opening, still in its name',
  async (t) => {
    const dir = t.testdir()
    const chat = aChat()
    const store = openSqliteStore(dir)
    await store.createChat(chat)
    const held = await store.appendTurn(aTurn(chat))
    const released = await store.appendTurn(aTurn(chat))
    await store.updateReply(released.reply.id, { status: ['queued'] }, { owner: null })
    const ended = await store.appendTurn(aTurn(chat))
    const end = { status: 'complete', owner: null, leaseUntil: null } as const
    await store.updateReply(ended.reply.id, { status: ['queued'] }, end)
    await store.close()

    const again = openSqliteStore(dir)
    t.teardown(() => again.close())
    const lapsed = await again.findLapsedReplies(new Date(0), 10)
    t.strictSame(
      lapsed.map(({ id, owner }) => ({ id, owner })),
      [
        { id: held.reply.id, owner: 'process-a' },
        { id: released.reply.id, owner: undefined },
      ],
    )
  },
)

t.test('a checkpoint of a long reply writes what is new, not all of it', async (t) => {
  const dir = t.testdir()
  const chat = aChat()
  const store = openSqliteStore(dir)
  t.teardown(() => store.close())
  await store.createChat(chat)
  const { reply } = await store.appendTurn(aTurn(chat, { owner: 'a' }))
  const { id } = reply
  const begun = { status: 'streaming', content: 'x'.repeat(2_000_000) } as const
  await store.updateReply(id, { status: ['queued'] }, begun)
  const log = () => statSync(join(dir, 'chat.db-wal')).size
  let before = log()
  let written = 0
  for (let n = 0; n < 20; n++) {
    const from = { content: begun.content.length + n, thinking: 0 }
    const piece = { from, content: 'y', thinking: '', tokens: n }
    t.strictSame(await store.checkpoint([{ id, owner: 'a', epoch: 1, ...piece }]), [])
    // A log that begins anew does not shrink.
    written += Math.max(0, log() - before)
    before = log()
  }
  t.ok(written < 1_000_000, `${written} bytes for 20 checkpoints`)
  const kept = await store.findMessage(chat.userId, chat.id, id)
  t.ok(kept?.content === begun.content + 'y'.repeat(20), 'and all of it is kept')
})

t.test('a file of the first layouts is opened, with what it has', async (t) => {
  const dir = t.testdir()
  const chat = aChat()
  const store = openSqliteStore(dir)
  await store.createChat(chat)
  const { message, reply } = await store.appendTurn(aTurn(chat))
  const begun = { status: 'streaming', content: 'Begun' } as const
  await store.updateReply(reply.id, { status: ['queued'] }, begun)
  await store.close()
  const old = new Libsql(join(dir, 'chat.db'))
  old.exec(`
    DROP TABLE pieces;
    ALTER TABLE messages DROP COLUMN finish_reason;
    ALTER TABLE messages DROP COLUMN tokens;
    DROP INDEX sessions_by_user;
    ALTER TABLE sessions DROP COLUMN spent_at;
    PRAGMA user_version = 1`)
  old.close()

  const again = openSqliteStore(dir)
  t.teardown(() => again.close())
  t.match(await again.listMessages(chat.id, 10), [message, { content: 'Begun' }])
  const piece = { from: { content: 5, thinking: 0 }, content: ' more', thinking: '', tokens: 2 }
  const held = { id: reply.id, owner: 'process-a', epoch: 1 }
  t.strictSame(await again.checkpoint([{ ...held, ...piece }]), [])
  t.match(await again.listMessages(chat.id, 10), [message, { content: 'Begun more' }])
})

t.test('what was deleted is gone from the files', async (t) => {
  const dir = t.testdir()
  const store = openSqliteStore(dir)
  t.teardown(() => store.close())
  const [user, kept] = [aUser({ email: 'canary-email@example.org' }), aChat()]
  await store.createUser(user)
  await store.createChat(kept)
  await store.appendTurn(aTurn(kept, { content: 'what stays' }))
  const chats = [aChat({ userId: user.id, title: 'canary-title' }), aChat()]
  for (const chat of chats) {
    await store.createChat(chat)
    const content = 'canary-message '.repeat(500)
    const { id } = (await store.appendTurn(aTurn(chat, { content, owner: 'a' }))).reply
    await store.updateReply(id, { status: ['queued'] }, { status: 'streaming' })
    const piece = {
      from: { content: 0, thinking: 0 },
      content: 'canary-piece',
      thinking: '',
      tokens: 1,
    }
    await store.checkpoint([{ id, owner: 'a', epoch: 1, ...piece }])
  }
  const found = (text: string) =>
    readdirSync(dir).filter((name) => readFileSync(join(dir, name)).includes(text))
  t.not(found('canary-piece').length, 0)
  await store.deleteUser(user.id)
  await store.deleteChat(chats[1]?.userId ?? '', chats[1]?.id ?? '')
  await eventually('nothing is left of it', () => found('canary').length === 0)
  t.strictSame(found('what stays'), ['chat.db'])
})

t.test('a file of a newer version is refused and left as it is', async (t) => {
  const dir = t.testdir()
  const file = join(dir, 'chat.db')
  const newer = new Libsql(file)
  newer.exec('CREATE TABLE things (id INTEGER); PRAGMA user_version = 999')
  newer.close()
  const before = readFileSync(file)
  t.throws(() => openSqliteStore(dir), {
    message: /chat\.db cannot be used: .*newer version.*schema 999.*another DATA_DIR/,
  })
  t.ok(readFileSync(file).equals(before), 'not a byte differs')
})

t.test('a file that is no database is refused by name and left as it is', async (t) => {
  const dir = t.testdir()
  const file = join(dir, 'chat.db')
  writeFileSync(file, 'not a database at all, '.repeat(100))
  const before = readFileSync(file)
  t.throws(() => openSqliteStore(dir), { message: /chat\.db cannot be used/ })
  t.ok(readFileSync(file).equals(before), 'not a byte differs')
})

t.test('a store that was closed says so and may be closed again', async (t) => {
  const store = openSqliteStore(t.testdir())
  await store.close()
  await store.close()
  await t.rejects(store.ping(), { code: 'STORE_UNAVAILABLE' })
  await t.rejects(store.createChat(aChat()), { code: 'STORE_UNAVAILABLE' })
})

t.test('every query that a request waits for goes by an index', async (t) => {
  const dir = t.testdir()
  await openSqliteStore(dir).close()
  const db = new Libsql(join(dir, 'chat.db'))
  t.teardown(() => db.close())
  const plan = (sql: string) => {
    const steps = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).raw().all([]) as [0, 0, 0, string][]
    return steps.map(([, , , step]) => step).join('; ')
  }
  const list = plan(
    `SELECT id FROM chats WHERE user_id = 'u' AND (updated_at, id) < (1, 'x')
     ORDER BY updated_at DESC, id DESC LIMIT 20`,
  )
  t.match(list, /chats_by_activity/)
  t.notMatch(list, /TEMP B-TREE/)
  const messages = plan(`SELECT id FROM messages WHERE chat_id = 'c' AND seq < 9 ORDER BY seq DESC`)
  t.match(messages, /messages_by_place/)
  t.notMatch(messages, /TEMP B-TREE/)
  t.match(
    plan(`SELECT id FROM messages WHERE chat_id = 'c' AND lease_until IS NOT NULL ORDER BY seq`),
    /active_by_chat/,
  )
  t.match(
    plan('SELECT id FROM messages WHERE lease_until <= 9 ORDER BY created_at'),
    /active_by_lease/,
  )
  const firstEnd = plan(
    'SELECT lease_until FROM messages WHERE lease_until IS NOT NULL ORDER BY lease_until LIMIT 1',
  )
  t.match(firstEnd, /active_by_lease/)
  t.notMatch(firstEnd, /TEMP B-TREE/)
})

/** Takes the write lock of a store's file, as another process does. */
function lock(dir: string) {
  const other = new Libsql(join(dir, 'chat.db'))
  other.exec('BEGIN IMMEDIATE')
  return {
    release() {
      other.exec('ROLLBACK')
      other.close()
    },
  }
}

t.test(
  'while another process holds the write lock, writes wait together and reads go on',
  async (t) => {
    const dir = t.testdir()
    const store = openSqliteStore(dir)
    t.teardown(() => store.close())
    const [user, chat, session] = [aUser(), aChat(), aSession()]
    await store.createUser(user)
    await store.createChat(chat)
    await store.createSession(session)
    const { reply } = await store.appendTurn(aTurn(chat, { owner: 'a' }))
    await store.updateReply(reply.id, { status: ['queued'] }, { status: 'streaming' })
    const piece = { from: { content: 0, thinking: 0 }, content: 'Hm', thinking: '', tokens: 1 }
    const now = new Date()
    /** Every write there is. */
    const writes = () => [
      store.createUser(aUser()),
      store.createSession(aSession()),
      store.rotateSession(session.id, session.generation, session),
      store.deleteSession(newId()),
      store.deleteSessionsOf(newId()),
      store.deleteExpiredSessions(new Date(0)),
      store.deleteUser(newId()),
      store.createChat(aChat()),
      store.updateChat(chat.userId, chat.id, { title: 'B' }, now),
      store.deleteChat(newId(), newId()),
      store.appendTurn(aTurn(chat)),
      store.checkpoint([{ id: reply.id, owner: 'a', epoch: 1, ...piece }]),
      store.updateReply(reply.id, { status: ['streaming'] }, { leaseUntil: now }),
      store.renewLeases('a', [reply.id], now),
    ]
    const held = lock(dir)
    let settled = 0
    const refused = writes().map((write) => write.finally(() => (settled += 1)))
    const all = Promise.allSettled(refused)
    t.strictSame(await store.findUser(user.id), user)
    await new Promise(setImmediate)
    t.match(await store.findChat(chat.userId, chat.id), { messageCount: 2 })
    t.equal(settled, 0, 'a read is answered before the wait for the lock is over')
    for (const result of await all) {
      t.match(result, {
        status: 'rejected',
        reason: { code: 'STORE_UNAVAILABLE', statusCode: 503, message: /^Another process/ },
      })
    }
    const waiting = Promise.all(writes())
    await new Promise(setImmediate)
    held.release()
    await t.resolves(waiting, 'and what still waits is stored when the lock is given back')
    t.match(await store.findChat(chat.userId, chat.id), { title: 'B', messageCount: 4 })
  },
)
