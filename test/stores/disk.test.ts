import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Libsql from 'libsql'
import t, { type Test } from 'tap'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import type { Store } from '../../src/stores/store.js'
import { aChat, aTurn, aUser } from './rows.js'

const run = (command: string, ...args: string[]) => {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' })
  return { ok: status === 0, reason: error?.message ?? stderr.trim() }
}

interface Disk {
  dir: string
  fill(): void
  makeRoom(): void
}

/** What must hold on any disk, once `fill` has left it without room for another turn. */
async function outlivesAFullDisk(t: Test, { dir, fill, makeRoom }: Disk) {
  let store: Store = openSqliteStore(dir)
  t.teardown(() => store.close())
  const [user, chat] = [aUser(), aChat()]
  await store.createUser(user)
  await store.createChat(chat)
  const first = await store.appendTurn(aTurn(chat))
  const acknowledged = [first.message, first.reply]
  fill()

  const content = 'Many words. '.repeat(3_000)
  let refused = aTurn(chat, { content })
  let failure: unknown
  for (let replyResponses = 0; replyResponses < 1_000 && !failure; replyResponses += 1) {
    refused = aTurn(chat, { content })
    try {
      const { message, reply } = await store.appendTurn(refused)
      acknowledged.push(message, reply)
    } catch (error) {
      failure = error
    }
  }
  t.match(failure, { code: 'STORAGE_FULL', statusCode: 503, retryable: true })
  t.match(failure, { message: /full or read-only, so nothing was stored/, cause: { name: /./ } })
  await t.rejects(store.appendTurn(refused), { code: 'STORAGE_FULL' }, 'and again')

  const everything = async () => ({
    user: await store.findUser(user.id),
    chat: await store.findChat(chat.userId, chat.id),
    messages: await store.listMessages(chat.id, 10_000),
  })
  const expected = {
    user,
    chat: {
      ...chat,
      title: 'Hello',
      messageCount: acknowledged.length,
      updatedAt: first.message.createdAt,
    },
    messages: acknowledged,
  }
  t.strictSame(await everything(), expected, 'reads go on, and nothing is half-stored')
  await t.resolves(store.ping())

  makeRoom()
  t.match(
    await store.appendTurn(refused),
    { created: true, message: { seq: acknowledged.length + 1 } },
    'the same turn is stored once there is room',
  )
  await store.close()
  store = openSqliteStore(dir)
  t.equal((await store.listMessages(chat.id, 10_000)).length, acknowledged.length + 2)
  const db = new Libsql(join(dir, 'chat.db'))
  t.teardown(() => db.close())
  t.strictSame(db.prepare('PRAGMA integrity_check').raw().get([]), ['ok'])
}

t.test('a disk that is full', async (t) => {
  // Not t.testdir(), which is removed before a teardown could unmount it.
  const dir = mkdtempSync(join(tmpdir(), 'full-disk-'))
  const mounted = run('mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', dir)
  try {
    if (!mounted.ok) {
      t.pass('nothing tried', { skip: `no disk may be mounted here: ${mounted.reason}` })
      return
    }
    const ballast = join(dir, 'ballast')
    await outlivesAFullDisk(t, {
      dir,
      fill: () => writeFileSync(ballast, Buffer.alloc(2560 * 1024)),
      makeRoom: () => rmSync(ballast),
    })
  } finally {
    if (mounted.ok) run('umount', '-l', dir)
    rmdirSync(dir)
  }
})

t.test('files that may not grow', async (t) => {
  const dir = join(t.testdir(), 'data')
  mkdirSync(dir)
  const limit = (bytes: number | 'unlimited') =>
    run('prlimit', '--pid', `${process.pid}`, `--fsize=${bytes}:`)
  const { ok, reason } = limit('unlimited')
  if (!ok) {
    t.pass('nothing tried', { skip: `no limit can be set here: ${reason}` })
    return
  }
  // Node ignores this signal of a refused write; tap would end the process unless somebody listens.
  const ignore = () => {}
  process.on('SIGXFSZ', ignore)
  t.teardown(() => process.off('SIGXFSZ', ignore))
  t.teardown(() => limit('unlimited'))
  await outlivesAFullDisk(t, {
    dir,
    fill: () => limit(1024 * 1024),
    makeRoom: () => limit('unlimited'),
  })
})
