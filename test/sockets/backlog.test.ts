import t, { type Test } from 'tap'
import { backlogOf, isClosing, terminate } from '../../src/sockets/backlog.js'
import { connect } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { connectDeaf } from '../services/deaf-socket.js'
import { eventually } from '../services/eventually.js'

/*
 * src/sockets/backlog.ts reads what engine.io and ws do not declare. When an update of theirs takes
 * it away, these tests fail.
 */

/** The server's side of a socket that never reads, with more waiting than its connection takes. */
async function startDeaf(t: Test) {
  const { app, url, user, newChat } = await startConversation(t)
  const { socket } = await connectDeaf(url, user.token, await newChat())
  t.teardown(() => socket.destroy())
  const [serverSide] = app.io.sockets.sockets.values()
  if (!serverSide) throw new Error('no such socket')
  const { conn } = serverSide
  t.strictSame(backlogOf(conn), { packets: 0, bytes: 0, isDrained: true })
  const chatId = 'x'.repeat(1_000_000)
  await eventually('the connection takes no more', () => {
    app.io.emit('chat-deleted', { chatId })
    return backlogOf(conn).packets > 1
  })
  return { conn, serverSide }
}

t.test('what waits for a client that does not read is known', async (t) => {
  const { conn } = await startDeaf(t)
  const { packets, bytes, isDrained } = backlogOf(conn)
  t.ok(bytes > packets * 1_000_000, `${packets} packets wait, and ${bytes} bytes in all`)
  t.notOk(isDrained)
})

t.test('a WebSocket that does not read can be terminated', async (t) => {
  const { conn, serverSide } = await startDeaf(t)
  t.ok(isClosing(conn), 'it is open')
  terminate(conn)
  await eventually('it is closed', () => !serverSide.connected && !isClosing(conn))
})

t.test('a polling client that does not ask can be terminated', async (t) => {
  const { app, url, user } = await startConversation(t)
  await connect(t, url, user.token, { transports: ['polling'], reconnection: false })
  const [serverSide] = app.io.sockets.sockets.values()
  if (!serverSide) return t.fail('no such socket')
  terminate(serverSide.conn)
  await eventually('it is closed', () => !serverSide.connected)
})
