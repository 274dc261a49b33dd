import t from 'tap'
import { UnconfirmedTurns } from '../../src/engine/unconfirmed-turns.js'
import { AppError } from '../../src/errors.js'
import { newId } from '../../src/ids.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import { startApp } from '../services/app.js'
import { eventually } from '../services/eventually.js'
import { aChat, aTurn } from '../stores/rows.js'

t.test('a turn that the last look finds is taken up', async (t) => {
  const { app } = await startApp(t)
  const chat = aChat()
  await app.store.createChat(chat)
  const { message, reply } = await app.store.appendTurn(aTurn(chat))
  const takenUp: string[] = []
  const held = new HeldReplies()
  let isAway = true
  const findTurn: typeof app.store.findTurn = async (...asked) => {
    if (isAway) throw new AppError('STORE_UNAVAILABLE')
    return app.store.findTurn(...asked)
  }
  const unconfirmed = new UnconfirmedTurns({
    store: { findTurn },
    held,
    runner: { takeUp: (turn) => takenUp.push(turn.reply.id) },
  })
  t.teardown(() => unconfirmed.close())
  unconfirmed.add(chat.userId, message.id, reply.id)
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  // Later than a turn is looked for.
  Date.now = () => now() + 3_600_000
  isAway = false
  await eventually('it is found', () => takenUp.length > 0)
  t.same(takenUp, [reply.id])
  t.notOk(held.isOwn(reply.id))
})

t.test('a turn that was not stored is forgotten after the last look', async (t) => {
  const held = new HeldReplies()
  const unconfirmed = new UnconfirmedTurns({
    store: { findTurn: async () => undefined },
    held,
    runner: { takeUp: () => t.fail('nothing was stored') },
  })
  t.teardown(() => unconfirmed.close())
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  unconfirmed.add(newId(), newId(), 'reply')
  t.ok(held.isOwn('reply'))
  Date.now = () => now() + 3_600_000
  await eventually('it is forgotten', () => !held.isOwn('reply'))
})
