import t, { type Test } from 'tap'
import { AppError } from '../../src/errors.js'
import { Connection } from '../../src/stores/sqlite/connection.js'
import { GroupCommit } from '../../src/stores/sqlite/group-commit.js'

const turn = () => new Promise(setImmediate)

/** A file with a table of numbers, and what writes and reads it. */
function openNumbers(t: Test) {
  const connection = new Connection(`${t.testdir()}/test.db`)
  t.teardown(() => connection.close())
  connection.exec('PRAGMA journal_mode = WAL; CREATE TABLE numbers (n INTEGER)')
  const insert = connection.writer('INSERT INTO numbers VALUES (?)')
  const read = connection.reader<number[]>('SELECT json_group_array(n) FROM numbers')
  return { connection, insert, read }
}

/** A disk that answers when it is told to. */
function slowDisk(connection: Connection) {
  const asked: { resolve: () => void; reject: (error: Error) => void }[] = []
  const sync = () => new Promise<void>((resolve, reject) => asked.push({ resolve, reject }))
  const group = new GroupCommit({
    transaction: (work) => connection.transaction(work),
    sync,
  })
  return { group, asked }
}

t.test('what this turn of the loop and the next one bring is one commit', async (t) => {
  const { connection, insert } = openNumbers(t)
  const commits = t.capture(connection, 'transaction', connection.transaction)
  const syncs = t.capture(connection, 'sync', connection.sync)
  const group = new GroupCommit(connection)

  const first = group.write(() => insert(1))
  await turn()
  const second = group.write(() => insert(2))
  t.same(await Promise.all([first, second]), [1, 1])
  t.equal(commits().length, 1)
  t.equal(syncs().length, 1, 'and waits for the disk once')

  t.equal(await group.write(() => insert(3)), 1)
  t.equal(commits().length, 1, 'one that comes later is another')
})

t.test('nobody is told before the disk has it, and nothing else waits for the disk', async (t) => {
  const { connection, insert, read } = openNumbers(t)
  const { group, asked } = slowDisk(connection)
  const told: number[] = []
  const write = (n: number) => group.write(() => insert(n)).then(() => told.push(n))

  const first = write(1)
  while (asked.length === 0) await turn()
  t.same(read(), [1], 'committed, and read, while the disk is at it')
  const others = [write(2), write(3)]
  while (read()?.length !== 3) await turn()
  t.same(told, [])
  t.equal(asked.length, 1, 'what comes meanwhile waits for the next')
  asked[0]?.resolve()
  await first
  t.same(told, [1])
  while (asked.length === 1) await turn()
  asked[1]?.resolve()
  await Promise.all(others)
  t.same(told, [1, 2, 3])
  t.equal(asked.length, 2)
})

t.test('a disk that fails fails those who wait for it, and no others', async (t) => {
  const { connection, insert } = openNumbers(t)
  const { group, asked } = slowDisk(connection)
  const refused = group.write(() => insert(1))
  while (asked.length === 0) await turn()
  const later = group.write(() => insert(2))
  asked[0]?.reject(new AppError('STORE_UNAVAILABLE'))
  await t.rejects(refused, { code: 'STORE_UNAVAILABLE' })
  while (asked.length === 1) await turn()
  asked[1]?.resolve()
  t.equal(await later, 1)
})

t.test('a flush has told everybody when it resolves', async (t) => {
  const { connection, insert, read } = openNumbers(t)
  const { group, asked } = slowDisk(connection)
  const told: string[] = []
  void group.write(() => insert(1)).then(() => told.push('first'))
  const flushed = group.flush().then(() => told.push('flushed'))
  t.same(read(), [1], 'it commits at once')
  asked[0]?.resolve()
  await flushed
  t.same(told, ['first', 'flushed'])
  await group.flush()
  t.equal(asked.length, 1, 'without anything to commit the disk is left alone')
})

t.test('a log that cannot be synced is said so', async (t) => {
  const connection = new Connection(`${t.testdir()}/test.db`)
  t.teardown(() => connection.close())
  // Without a write-ahead log there is none to sync.
  await t.rejects(connection.sync(), { code: 'STORE_UNAVAILABLE', cause: { code: 'ENOENT' } })
})
