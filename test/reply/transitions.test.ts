import t, { type Test } from 'tap'
import { createMemoryCache } from '../../src/cache/memory.js'
import type { StreamLog } from '../../src/cache/stream-log.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import { hasEnded, LiveReply } from '../../src/reply/live-reply.js'
import { keptText, type Outcome, ReplyState } from '../../src/reply/reply-state.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import type { MessageRow, ReplyChange } from '../../src/stores/store.js'
import { aChat, aTurn } from '../stores/rows.js'

const leaseMs = 5000
const kept = { content: 'One two', thinking: 'Hm', tokens: { kept: 3, discarded: 4 } }
const nothing = { content: '', thinking: '', tokens: { kept: 0, discarded: 0 } }

/** A reply in a real store, changed from how a turn is stored, and the transitions of `here`. */
async function start(t: Test, change: ReplyChange = {}, streamLog?: StreamLog) {
  const store = openSqliteStore(t.testdir())
  t.teardown(() => store.close())
  const chat = aChat()
  await store.createChat(chat)
  const stored = await store.appendTurn(aTurn(chat, { owner: 'here' }))
  const row = await store.updateReply(stored.reply.id, { status: ['queued'] }, change)
  if (!row) throw new Error('the reply was not stored')
  const held = new HeldReplies()
  const cache = createMemoryCache()
  const state = new ReplyState({ store, cache, held, streamLog, owner: 'here', leaseMs })
  return {
    state,
    held,
    row,
    find: () => store.findMessage(chat.userId, chat.id, row.id),
    /** What another process does meanwhile. */
    meanwhile: (change: ReplyChange) =>
      store.updateReply(row.id, { status: ['queued', 'streaming'] }, change),
  }
}

/** What another process may have done, before which each transition of this one loses. */
const meanwhiles: Readonly<Record<string, ReplyChange>> = {
  'another owner of the same epoch': { owner: 'another' },
  'no owner, for any to claim': { owner: null },
  'a newer epoch of the same owner': { epoch: 2 },
  'an end': { status: 'stopped', owner: null, leaseUntil: null },
}

type Move = (state: ReplyState, row: MessageRow) => Promise<MessageRow | undefined>
const moves: Readonly<Record<string, Move>> = {
  begin: (state, row) => state.begin(row),
  release: (state, row) => state.release(row, kept),
  claim: (state, row) => state.claim(row, kept),
  end: (state, row) => state.end(row, { status: 'stopped' }, 'here'),
  'the end of a lapsed reply': (state, row) => state.endLapsed(row, { status: 'interrupted' }),
}

for (const [name, move] of Object.entries(moves)) {
  for (const [what, change] of Object.entries(meanwhiles)) {
    t.test(`${name} loses to ${what}`, async (t) => {
      const { state, held, row, find, meanwhile } = await start(t, { status: 'streaming' })
      const theirs = await meanwhile(change)
      t.equal(await move(state, row), undefined)
      t.same(await find(), theirs)
      t.equal(held.findEnded(row.id), undefined)
    })
  }
}

for (const [name, move] of Object.entries(moves).slice(2)) {
  if (name === 'end') continue
  t.test(`${name} loses to the owner that renews its lease`, async (t) => {
    const { state, row, find, meanwhile } = await start(t, { status: 'streaming' })
    const theirs = await meanwhile({ leaseUntil: new Date(9.5e12) })
    t.equal(await move(state, row), undefined)
    t.same(await find(), theirs)
  })

  t.test(`${name} loses to a reply that has begun since it was found`, async (t) => {
    const { state, row, find, meanwhile } = await start(t)
    const theirs = await meanwhile({ status: 'streaming' })
    t.equal(await move(state, row), undefined)
    t.same(await find(), theirs)
  })
}

/** A date that is a lease from now on. */
const isLease = (from: number, until = new Date(0)) =>
  until.getTime() >= from + leaseMs && until.getTime() <= Date.now() + leaseMs

t.test('a queued reply begins, under a new lease, with all else as it was', async (t) => {
  const { state, row, find } = await start(t)
  const from = Date.now()
  const begun = await state.begin(row)
  t.ok(isLease(from, begun?.leaseUntil))
  t.same(begun, { ...row, status: 'streaming', leaseUntil: begun?.leaseUntil })
  t.same(await find(), begun)
})

t.test('a reply that was claimed while streaming begins as it is', async (t) => {
  const { state, row } = await start(t, { status: 'streaming', epoch: 3, epochStart: 5 })
  t.match(await state.begin(row), { status: 'streaming', epoch: 3, epochStart: 5 })
})

t.test('a release leaves text and tokens for any process to claim at once', async (t) => {
  const { state, row, find } = await start(t, { status: 'streaming' })
  const { owner: _, ...rest } = row
  const released = { ...rest, ...kept, leaseUntil: new Date(0) }
  t.same(await state.release(row, kept), released)
  t.same(await find(), released)
})

t.test('a queued reply is released, and stays queued', async (t) => {
  const { state, row } = await start(t)
  t.match(await state.release(row, nothing), { status: 'queued', leaseUntil: new Date(0) })
})

t.test('a release without thinking leaves none', async (t) => {
  const { state, row } = await start(t, { status: 'streaming', thinking: 'old' })
  t.equal((await state.release(row, nothing))?.thinking, undefined)
})

t.test('a claim of a queued reply changes its owner and lease alone', async (t) => {
  const { state, row } = await start(t, { owner: 'dead', takeovers: 1 })
  const from = Date.now()
  const claimed = await state.claim(row, kept)
  t.ok(isLease(from, claimed?.leaseUntil))
  t.same(claimed, { ...row, owner: 'here', leaseUntil: claimed?.leaseUntil })
})

t.test('a claim of a begun reply begins an epoch at the end of the kept text', async (t) => {
  const { state, row } = await start(t, { status: 'streaming', owner: 'dead', thinking: 'old' })
  const claimed = await state.claim(row, kept)
  t.same(claimed, {
    ...row,
    ...kept,
    ...{ owner: 'here', epoch: 2, epochStart: 7, takeovers: 1 },
    leaseUntil: claimed?.leaseUntil,
  })
})

t.test('a claim without kept text begins its epoch at 0', async (t) => {
  const change = { status: 'streaming', content: 'old', thinking: 'old' } as const
  const { state, row } = await start(t, change)
  const claimed = await state.claim(row, nothing)
  t.match(claimed, { content: '', epoch: 2, epochStart: 0, takeovers: 0 })
  t.equal(claimed?.thinking, undefined)
})

t.test('a reply without owner is claimed as it was found', async (t) => {
  const { state, row } = await start(t, { status: 'streaming', owner: null, takeovers: 1 })
  t.match(await state.claim(row, nothing), { owner: 'here', epoch: 2, takeovers: 1 })
})

t.test('of two processes that claim a reply one gets it', async (t) => {
  const { state, row } = await start(t, { status: 'streaming', owner: 'dead' })
  const claims = await Promise.all([state.claim(row, nothing), state.claim(row, nothing)])
  t.equal(claims.filter((claimed) => claimed).length, 1)
})

t.test('a reply is given up after three takeovers from dead owners', async (t) => {
  const { state, row } = await start(t, { status: 'streaming', owner: 'dead' })
  for (const [takeovers, is] of [
    [2, false],
    [3, true],
    [4, true],
  ] as const) {
    t.equal(state.isExhausted({ ...row, takeovers }), is, `${takeovers}`)
  }
  const { owner: _, ...handedOver } = row
  t.equal(state.isExhausted({ ...handedOver, takeovers: 9 }), false)
  t.equal(state.isExhausted({ ...row, owner: 'here', takeovers: 9 }), false)
})

t.test('a queued reply does not become complete', async (t) => {
  const { state, row, find } = await start(t)
  t.equal(await state.end(row, { status: 'complete' }, 'here'), undefined)
  t.same(await find(), row)
})

for (const status of ['stopped', 'interrupted', 'error'] as const) {
  t.test(`a queued reply ends ${status}`, async (t) => {
    const { state, row } = await start(t)
    t.match(await state.end(row, { status }, 'here'), { status })
  })
}

for (const status of ['complete', 'stopped', 'interrupted', 'error'] as const) {
  t.test(`a streaming reply ends ${status}, with what it is given`, async (t) => {
    const change = { status: 'streaming', tokens: { kept: 1, discarded: 0 } } as const
    const { state, held, row, find } = await start(t, change)
    const outcome: Outcome = {
      status,
      finishReason: 'length',
      usage: { messagesSent: 1, messagesDropped: 0 },
      error: { code: 'MODEL_CUT', message: 'Cut.' },
      completedAt: new Date(7_000),
      text: { content: 'Whole', thinking: 'Hm' },
    }
    const { owner: _, leaseUntil: __, tokens: ___, ...rest } = row
    const { text, ...fields } = outcome
    const ended = { ...rest, ...fields, ...text }
    t.same(await state.end(row, outcome, 'here'), ended)
    t.same(await find(), ended)
    t.same(held.findEnded(row.id), ended, 'and is known here at once')
  })
}

t.test('an end without more is of now, with the text that is stored', async (t) => {
  const { state, row } = await start(t, { status: 'streaming', content: 'kept', thinking: 'Hm' })
  const before = Date.now()
  const ended = await state.end(row, { status: 'stopped' }, 'here')
  const { owner: _, leaseUntil: __, ...rest } = row
  const { completedAt = new Date(0) } = ended ?? {}
  t.ok(completedAt.getTime() >= before && completedAt.getTime() <= Date.now())
  t.same(ended, { ...rest, status: 'stopped', completedAt })
})

t.test('an end of a reply that nobody holds', async (t) => {
  const { state, row } = await start(t, { owner: null })
  t.match(await state.end(row, { status: 'stopped' }, null), { status: 'stopped' })
})

t.test('a lapsed reply ends', async (t) => {
  const { state, held, row } = await start(t, { status: 'streaming', owner: 'dead' })
  const ended = await state.endLapsed(row, { status: 'interrupted' })
  t.match(ended, { status: 'interrupted' })
  t.equal(ended?.leaseUntil, undefined)
  t.same(held.findEnded(row.id), ended)
})

t.test('a claim is no end to this process', async (t) => {
  const { state, held, row } = await start(t, { status: 'streaming' })
  await state.claim(row, nothing)
  t.equal(held.findEnded(row.id), undefined)
})

t.test('queued and streaming are the states that have not ended', async (t) => {
  for (const status of ['queued', 'streaming'] as const) t.notOk(hasEnded({ status }))
  for (const status of ['complete', 'stopped', 'interrupted', 'error'] as const) {
    t.ok(hasEnded({ status }))
  }
})

/** A stream log that adds `more` to what is known, and what was asked of it. */
function startLog(more: Awaited<ReturnType<StreamLog['read']>>) {
  const closed: unknown[] = []
  const read: unknown[] = []
  const log: StreamLog = {
    append: async () => true,
    async read(...asked) {
      read.push(asked)
      return more
    },
    async close(...asked) {
      closed.push(asked)
    },
    stop() {},
  }
  return { log, closed, read }
}

t.test('the log of a reply that this process does not hold is closed by its end', async (t) => {
  const { log, closed } = startLog({ content: '', thinking: '' })
  const { state, row } = await start(t, { status: 'streaming', epoch: 2 }, log)
  await state.end(row, { status: 'stopped' }, 'here')
  t.same(closed, [[row.id, 2]])
})

t.test('the log of a reply that this process holds is left to its writer', async (t) => {
  const { log, closed } = startLog({ content: '', thinking: '' })
  const { state, held, row } = await start(t, { status: 'streaming' }, log)
  held.hold(new LiveReply(row, nothing))
  await state.end(row, { status: 'stopped' }, 'here')
  t.same(closed, [])
})

t.test('a claim leaves the log to who goes on', async (t) => {
  const { log, closed } = startLog({ content: '', thinking: '' })
  const { state, row } = await start(t, { status: 'streaming' }, log)
  await state.claim(row, nothing)
  t.same(closed, [])
})

t.test('the kept text is the checkpoint and what the stream log has beyond it', async (t) => {
  const { row } = await start(t, { content: 'One', thinking: 'Hm', epoch: 2, tokens: kept.tokens })
  const { log, read } = startLog({ content: ' two', thinking: '.', tokens: 9 })
  t.same(await keptText(row, log), {
    content: 'One two',
    thinking: 'Hm.',
    tokens: { kept: 9, discarded: 4 },
  })
  t.same(read, [[row.id, 2, { content: 3, thinking: 2 }]])
  const none = startLog({ content: '', thinking: '' })
  t.same(await keptText(row, none.log), {
    content: 'One',
    thinking: 'Hm',
    tokens: kept.tokens,
  })
})

t.test('without a stream log the kept text is the checkpoint', async (t) => {
  const { row } = await start(t, { content: 'One', thinking: 'Hm', tokens: kept.tokens })
  t.same(await keptText(row, undefined), { content: 'One', thinking: 'Hm', tokens: kept.tokens })
  const { row: bare } = await start(t)
  t.same(await keptText(bare, undefined), nothing)
})
