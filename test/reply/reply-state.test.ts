import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { newId } from '../../src/ids.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import { ReplyState } from '../../src/reply/reply-state.js'
import type { ReplyChange } from '../../src/stores/store.js'
import { startApp } from '../services/app.js'
import { aChat, aTurn } from '../stores/rows.js'

const nothing = { content: '', thinking: '', tokens: { kept: 0, discarded: 0 } }
const stop = { status: 'stopped' } as const

const stateOf = ({ store, cache }: FastifyInstance, owner: string) =>
  new ReplyState({
    ...{ store, cache, owner, leaseMs: 1000, held: new HeldReplies() },
    streamLog: undefined,
  })

/** A streaming reply that `dead` holds, and the transitions as a process named `here` makes them. */
async function start(t: Test, change: ReplyChange = {}) {
  const { app } = await startApp(t, { LEASE_MS: '600000' })
  const { store } = app
  const chat = aChat()
  await store.createChat(chat)
  const leaseUntil = new Date(9e12)
  const { reply } = await store.appendTurn(aTurn(chat, { owner: 'dead', leaseUntil }))
  const begun = { status: 'streaming', ...change } as const
  const row = await store.updateReply(reply.id, { status: ['queued'] }, begun)
  if (!row) throw new Error('the reply was not stored')
  return {
    app,
    store,
    row,
    state: stateOf(app, 'here'),
    find: () => store.findMessage(chat.userId, chat.id, reply.id),
    /** What another process does meanwhile. */
    meanwhile: (change: ReplyChange) => store.updateReply(row.id, { status: [row.status] }, change),
  }
}

t.test('a claim loses to an owner that renews its lease first', async (t) => {
  const { store, row, state, find } = await start(t)
  const until = new Date(9.1e12)
  await store.renewLeases('dead', [row.id], until)
  t.equal(await state.claim(row, nothing), undefined)
  t.match(await find(), { owner: 'dead', epoch: 1, leaseUntil: until })
})

t.test('a claim loses to another owner, whatever its lease', async (t) => {
  const { row, state, find, meanwhile } = await start(t)
  await meanwhile({ owner: 'another' })
  t.equal(await state.claim(row, nothing), undefined)
  t.match(await find(), { owner: 'another', epoch: 1 })
})

t.test('a claim loses to a newer epoch', async (t) => {
  const { row, state, find, meanwhile } = await start(t)
  await meanwhile({ epoch: 2 })
  t.equal(await state.claim(row, nothing), undefined)
  t.match(await find(), { owner: 'dead', epoch: 2 })
})

t.test('a claim loses to an end', async (t) => {
  const { row, state, find, meanwhile } = await start(t)
  await meanwhile({ status: 'stopped', owner: null, leaseUntil: null })
  t.equal(await state.claim(row, nothing), undefined)
  t.match(await find(), { status: 'stopped' })
})

t.test('an end loses to a newer epoch of the same owner', async (t) => {
  const { row, state, find, meanwhile } = await start(t)
  await meanwhile({ epoch: 2 })
  t.equal(await state.end(row, stop, 'dead'), undefined)
  t.match(await find(), { status: 'streaming', epoch: 2 })
})

t.test('an end loses to another owner of the same epoch', async (t) => {
  const { row, state, find, meanwhile } = await start(t)
  await meanwhile({ owner: 'another' })
  t.equal(await state.end(row, stop, 'dead'), undefined)
  t.match(await find(), { status: 'streaming', owner: 'another' })
})

t.test('the end of a lapsed reply loses to an owner that renews its lease first', async (t) => {
  const { store, row, state, find } = await start(t)
  await store.renewLeases('dead', [row.id], new Date(9.1e12))
  t.equal(await state.endLapsed(row, { status: 'interrupted' }), undefined)
  t.match(await find(), { status: 'streaming', owner: 'dead' })
})

for (const [whose, owner, counts] of [
  ['a dead server', 'dead', 1],
  ['a server that handed it over', null, 0],
  ['this process itself', 'here', 0],
] as const) {
  t.test(`a takeover from ${whose} counts ${counts}`, async (t) => {
    const { row, state } = await start(t, { owner, takeovers: 2 })
    const claimed = await state.claim(row, nothing)
    t.match(claimed, { owner: 'here', epoch: 2, takeovers: 2 + counts })
    t.equal(state.isExhausted({ ...row, takeovers: 3 }), counts === 1)
  })
}

t.test('a release is claimed with its text and its tokens', async (t) => {
  const { app, row, state } = await start(t, { owner: 'here' })
  const kept = { content: 'One two', thinking: 'Hm', tokens: { kept: 3, discarded: 4 } }
  const released = await state.release(row, kept)
  t.match(released, { content: 'One two', thinking: 'Hm', leaseUntil: new Date(0) })
  t.equal(released?.owner, undefined)
  if (!released) return
  const claimed = await stateOf(app, newId()).claim(released, kept)
  t.match(claimed, { epoch: 2, epochStart: 7, takeovers: 0, tokens: { kept: 3, discarded: 4 } })
})
