import t from 'tap'
import { UnconfirmedTurns } from '../../src/engine/unconfirmed-turns.js'
import { AppError } from '../../src/errors.js'
import { newId } from '../../src/ids.js'
import { startApp } from '../services/app.js'
import { eventually } from '../services/eventually.js'
import { aChat, aTurn } from '../stores/rows.js'

t.test('a turn that the last look finds is taken up', async (t) => {
  const { app } = await startApp(t)
  const chat = aChat()
  await app.store.createChat(chat)
  const { message, reply } = await app.store.appendTurn(aTurn(chat))
  const stored: string[] = []
  let isAway = true
  const findTurn: typeof app.store.findTurn = async (...asked) => {
    if (isAway) throw new AppError('STORE_UNAVAILABLE')
    return app.store.findTurn(...asked)
  }
  const replyResponses = new UnconfirmedTurns({ findTurn }, (turn) => stored.push(turn.reply.id))
  t.teardown(() => replyResponses.close())
  replyResponses.add(chat.userId, message.id, reply.id)
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  // Longer than a turn is looked for.
  Date.now = () => now() + 3_600_000
  isAway = false
  await eventually('it is found', () => stored.length > 0)
  t.same(stored, [reply.id])
  t.notOk(replyResponses.hasReply(reply.id))
  t.notOk(replyResponses.areThere)
})

t.test('a turn that was not stored is forgotten after the last look', async (t) => {
  const replyResponses = new UnconfirmedTurns({ findTurn: async () => undefined }, () =>
    t.fail('nothing'),
  )
  t.teardown(() => replyResponses.close())
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  replyResponses.add(newId(), newId(), 'reply')
  t.ok(replyResponses.hasReply('reply'))
  Date.now = () => now() + 3_600_000
  await eventually('it is forgotten', () => !replyResponses.areThere)
})
