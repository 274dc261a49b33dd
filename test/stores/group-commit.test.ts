import t from 'tap'
import { Connection } from '../../src/stores/sqlite/connection.js'
import { GroupCommit } from '../../src/stores/sqlite/group-commit.js'

const turn = () => new Promise(setImmediate)

t.test('what this turn of the loop and the next one bring is one commit', async (t) => {
  const connection = new Connection(`${t.testdir()}/test.db`)
  t.teardown(() => connection.close())
  connection.exec('CREATE TABLE numbers (n INTEGER)')
  const insert = connection.writer('INSERT INTO numbers VALUES (?)')
  const commits = t.capture(connection, 'transaction', connection.transaction)
  const group = new GroupCommit(connection)

  const first = group.write(() => insert(1))
  await turn()
  const second = group.write(() => insert(2))
  t.same(await Promise.all([first, second]), [1, 1])
  t.equal(commits().length, 1)

  t.equal(await group.write(() => insert(3)), 1)
  t.equal(commits().length, 1, 'one that comes later is another')
})

t.test(
  'a commit waits for the disk unless all its writes may be lost by a power cut',
  async (t) => {
    const connection = new Connection(`${t.testdir()}/test.db`)
    t.teardown(() => connection.close())
    connection.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    const [normal, full] = [1, 2]
    const synchronous = connection.reader<number>('SELECT synchronous FROM pragma_synchronous')
    const group = new GroupCommit(connection)
    const durable = () => group.write(synchronous)
    const lazy = () => group.write(synchronous, false)
    t.equal(await durable(), full)
    t.equal(await lazy(), normal)
    t.strictSame(await Promise.all([lazy(), durable(), lazy()]), [full, full, full])
    const fails = group.write(() => {
      throw new Error('no')
    }, false)
    await t.rejects(fails, { message: 'no' })
    t.equal(await durable(), full)
  },
)
