import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { Leases } from '../../src/engine/leases.js'
import { newId } from '../../src/ids.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import { LiveReply } from '../../src/reply/live-reply.js'

const leaseMs = 8000
const tickMs = leaseMs / 8

/** Leases over a store whose answers the test gives, under a clock that it moves. */
function start(t: Test) {
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: 1_000_000 })
  const asked: { owner: string; ids: readonly string[]; until: number }[] = []
  const waiting: { resolve: (lost: string[]) => void; reject: (error: Error) => void }[] = []
  const logged: string[] = []
  const held = new HeldReplies()
  const keep = (_: object, message: string) => void logged.push(message)
  const leases = new Leases({
    store: {
      renewLeases: (owner, ids, until) => {
        asked.push({ owner, ids, until: until.getTime() })
        return new Promise((resolve, reject) => waiting.push({ resolve, reject }))
      },
    },
    ...{ held, owner: 'here', leaseMs, log: { info: keep, warn: keep, error: keep } },
  })
  t.teardown(() => {
    leases.stop()
    mock.timers.reset()
  })
  leases.start()
  return {
    leases,
    asked,
    logged,
    hold() {
      const row = { id: newId(), chatId: newId(), userId: newId(), createdAt: new Date() }
      const reply = LiveReply.queued({
        ...{ ...row, seq: 2, role: 'assistant', status: 'streaming', content: '' },
        ...{ epoch: 1, epochStart: 0, takeovers: 0 },
      })
      held.hold(reply)
      return reply
    },
    ticks: (count: number) => {
      for (let n = 0; n < count; n++) mock.timers.tick(tickMs)
    },
    /** The process is stopped for so long: no timer runs meanwhile. */
    freeze: (ms: number) => mock.timers.setTime(Date.now() + ms),
    /** Answers the oldest renewal that waits. */
    async answer(lost: string[] | Error = []) {
      const renewal = waiting.shift()
      if (lost instanceof Error) renewal?.reject(lost)
      else renewal?.resolve(lost)
      for (let n = 0; n < 5; n++) await Promise.resolve()
    },
  }
}

const away = new Error('away')

t.test('a process that holds nothing asks nothing, and its leases stay valid', async (t) => {
  const { leases, asked, ticks } = start(t)
  ticks(20)
  t.same(asked, [])
  t.ok(leases.valid)
})

t.test('what is held is renewed at the first tick, for a whole lease', async (t) => {
  const { leases, asked, hold, ticks } = start(t)
  const ids = [hold().id, hold().id]
  t.ok(leases.valid, 'what it stores has a lease from the start')
  ticks(1)
  t.same(asked, [{ owner: 'here', ids, until: 1_000_000 + tickMs + leaseMs }])
})

t.test('leases are renewed every third of a lease while the store answers', async (t) => {
  const { asked, hold, ticks, answer } = start(t)
  hold()
  for (let n = 0; n < 9; n++) {
    ticks(1)
    await answer()
  }
  t.same(
    asked.map(({ until }) => (until - 1_000_000 - leaseMs) / tickMs),
    [1, 4, 7],
  )
})

t.test('replies that are over or given up are not renewed', async (t) => {
  const { asked, hold, ticks } = start(t)
  const [kept, over, released] = [hold(), hold(), hold()]
  over.finish(undefined)
  released.interrupt('released')
  ticks(1)
  t.same(asked[0]?.ids, [kept.id])
})

t.test('a reply that the store says is another’s is lost, the others are not', async (t) => {
  const { hold, ticks, answer } = start(t)
  const [kept, lost] = [hold(), hold()]
  ticks(1)
  await answer([lost.id])
  t.equal(lost.interruption, 'lost')
  t.equal(kept.interruption, undefined)
})

t.test(
  'an answered renewal makes the leases valid for a lease from when it was asked',
  async (t) => {
    const { leases, hold, ticks, answer, freeze } = start(t)
    hold()
    ticks(1)
    await answer()
    freeze(leaseMs - 1)
    t.ok(leases.valid)
    freeze(1)
    t.notOk(leases.valid)
  },
)

t.test('an answer of an earlier renewal does not shorten what a later one gave', async (t) => {
  const { leases, hold, ticks, answer, freeze } = start(t)
  hold()
  ticks(4)
  await answer([])
  await answer([])
  ticks(1)
  freeze(leaseMs - tickMs - 1)
  t.ok(leases.valid)
})

t.test(
  'a process that was stopped for longer than a lease may not speak until it has renewed',
  async (t) => {
    const { leases, hold, ticks, answer, freeze } = start(t)
    hold()
    ticks(1)
    await answer()
    freeze(2 * leaseMs)
    t.notOk(leases.valid)
    ticks(1)
    t.notOk(leases.valid, 'it has asked')
    await answer()
    t.ok(leases.valid, 'it was answered')
  },
)

t.test('a process whose store is away goes on speaking', async (t) => {
  const { leases, hold, ticks, answer } = start(t)
  hold()
  ticks(1)
  await answer(away)
  for (let n = 0; n < 20; n++) {
    ticks(1)
    await answer(away)
    t.ok(leases.valid, `tick ${n}`)
  }
})

t.test('a store that does not answer is away once the next renewal is due', async (t) => {
  const { leases, asked, hold, ticks } = start(t)
  hold()
  ticks(20)
  t.ok(leases.valid)
  t.equal(asked.length, 4, 'so many wait at once')
})

t.test('a store that is away is asked at every tick', async (t) => {
  const { asked, hold, ticks, answer } = start(t)
  hold()
  for (let n = 0; n < 5; n++) {
    ticks(1)
    await answer(away)
  }
  t.equal(asked.length, 5)
  await answer()
  ticks(1)
  await answer()
  const before = asked.length
  ticks(2)
  t.equal(asked.length, before, 'and every third of a lease once it answers')
})

t.test('a process that was stopped while its store was away may not speak', async (t) => {
  const { leases, hold, ticks, answer, freeze } = start(t)
  hold()
  ticks(1)
  await answer(away)
  ticks(8)
  t.ok(leases.valid)
  freeze(leaseMs)
  t.notOk(leases.valid)
  freeze(leaseMs)
  ticks(1)
  t.notOk(leases.valid, 'until the store has answered')
})

t.test('a refusal that comes after a stop says nothing of the store', async (t) => {
  const { leases, hold, ticks, answer, freeze } = start(t)
  hold()
  ticks(1)
  freeze(2 * leaseMs)
  ticks(1)
  await answer(away)
  t.notOk(leases.valid)
})

t.test('an outage is logged once, and its end', async (t) => {
  const { logged, hold, ticks, answer } = start(t)
  hold()
  for (let n = 0; n < 3; n++) {
    ticks(1)
    await answer(away)
  }
  ticks(1)
  await answer()
  t.equal(logged.length, 2)
  t.match(logged, [/could not be renewed/, /are renewed again/])
})

t.test('a renewal that has failed makes room for another', async (t) => {
  const { asked, hold, ticks, answer } = start(t)
  hold()
  ticks(20)
  t.equal(asked.length, 4)
  await answer(away)
  ticks(1)
  t.equal(asked.length, 5)
})

t.test('once stopped nothing is renewed', async (t) => {
  const { leases, asked, hold, ticks } = start(t)
  hold()
  leases.stop()
  ticks(9)
  t.same(asked, [])
})
