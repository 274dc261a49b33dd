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
