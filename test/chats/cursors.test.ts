import t from 'tap'
import { createCursors } from '../../src/chats/cursors.js'

t.test('a cursor is good for its list alone, and only as it was made', async (t) => {
  const cursors = createCursors('a secret of thirty-two bytes or more')
  const cursor = cursors.seal('chats:u1', [1234, 'abc'])
  t.same(cursors.open('chats:u1', cursor), [1234, 'abc'])
  t.throws(() => cursors.open('chats:u2', cursor), { code: 'BAD_CURSOR' })
  t.throws(() => createCursors('another').open('chats:u1', cursor), { code: 'BAD_CURSOR' })
  for (let at = 0; at < cursor.length; at++) {
    const other = cursor[at] === 'A' ? 'B' : 'A'
    const tampered = cursor.slice(0, at) + other + cursor.slice(at + 1)
    t.throws(() => cursors.open('chats:u1', tampered), { code: 'BAD_CURSOR' }, `at ${at}`)
  }
  for (const junk of ['', 'x', '====', '%', 'null', cursor.slice(0, -1), `${cursor}A`]) {
    t.throws(() => cursors.open('chats:u1', junk), { code: 'BAD_CURSOR' }, JSON.stringify(junk))
  }
})
