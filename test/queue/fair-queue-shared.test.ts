import { mock } from 'node:test'
import t, { type Test } from 'tap'
import type { QueueLimits, Ticket } from '../../src/queue/fair-order.js'
import type { SharedSlots } from '../../src/queue/fair-queue.js'
import { makeQueue, settled } from './make-queue.js'
import { ticket } from './test-ticket.js'

const renewMs = 1000

/** The slots of several servers, whose answers a test sets, and what they were asked and told. */
class Slots implements SharedSlots<Ticket> {
  readonly renewMs = renewMs
  free = 0
  readonly refusedUsers = new Set<string>()
  /** How many replies of any user wait at other servers. */
  waitingOfUser = 0
  elsewhere = { waiting: 0, running: [] as string[] }
  readonly asked: string[] = []
  readonly released: string[] = []
  readonly told: [userId: string, waiting: number][] = []
  readonly renewed: { held: string[]; waiting: Record<string, number> }[] = []

  async take({ id, userId }: Ticket): Promise<boolean> {
    this.asked.push(id)
    if (this.free === 0 || this.refusedUsers.has(userId)) return false
    this.free -= 1
    return true
  }

  async release({ id }: Ticket): Promise<void> {
    this.released.push(id)
  }

  async tellWaiting(userId: string, waiting: number): Promise<number> {
    this.told.push([userId, waiting])
    return this.waitingOfUser
  }

  async renew(held: readonly Ticket[], waiting: ReadonlyMap<string, number>) {
    this.renewed.push({ held: held.map(({ id }) => id), waiting: Object.fromEntries(waiting) })
    return this.elsewhere
  }
}

/** A queue that shares its slots, under a clock that the test moves. */
function start(t: Test, limits: Partial<QueueLimits> = {}) {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 0 })
  t.teardown(() => mock.timers.reset())
  const shared = new Slots()
  const many = { maxConcurrent: 10, userMaxConcurrent: 10 }
  const parts = makeQueue({ ...many, ...limits }, { shared })
  const pass = async (ms: number) => {
    mock.timers.tick(ms)
    await settled()
  }
  return { ...parts, shared, pass }
}

t.test('where slots are shared, none is kept for a ticket that is yet to be stored', async (t) => {
  const { queue, shared } = start(t)
  t.equal((await queue.reserve(ticket('a', 0))).hasSlot, false)
  t.same(shared.asked, [])
})

t.test('a ticket starts once it was given a shared slot, and gives it back', async (t) => {
  const { started, enqueue, done, shared } = start(t)
  shared.free = 1
  const first = ticket('a', 0)
  for (const one of [first, ticket('a', 1)]) await enqueue(one)
  t.same(started, ['a0'])
  t.same(shared.released, [])
  await done(first)
  t.same(shared.released, ['a0'])
})

t.test('a ticket that was refused asks again after a while', async (t) => {
  const { started, enqueue, shared, pass } = start(t)
  await enqueue(ticket('a', 0))
  t.same(shared.asked, ['a0'])
  await pass(299)
  t.same(shared.asked, ['a0'])
  shared.free = 1
  await pass(1)
  t.same(started, ['a0'])
  await pass(1000)
  t.same(shared.asked, ['a0', 'a0'], 'and no more once it runs')
})

t.test('a ticket that was refused asks again at the news of a free slot', async (t) => {
  const { queue, started, enqueue, shared } = start(t)
  await enqueue(ticket('a', 0))
  shared.free = 1
  queue.retry()
  await settled()
  t.same(started, ['a0'])
})

t.test('a ticket asks again when the slots could not be asked', async (t) => {
  const { started, enqueue, shared, pass } = start(t)
  const take = shared.take.bind(shared)
  shared.take = async () => {
    shared.take = take
    throw new Error('Redis is away')
  }
  shared.free = 1
  await enqueue(ticket('a', 0))
  t.same(started, [])
  await pass(300)
  t.same(started, ['a0'])
})

t.test('a user that is refused is asked for once, and others are asked for', async (t) => {
  const { started, enqueue, shared } = start(t)
  for (const userId of ['a', 'b', 'c']) await enqueue(ticket(userId, 0))
  await enqueue(ticket('a', 1))
  shared.refusedUsers.add('a')
  shared.free = 2
  shared.asked.length = 0
  await enqueue(ticket('c', 1))
  t.same(started, ['b0', 'c0'])
  t.same(shared.asked, ['a0', 'b0', 'c0', 'c1'])
})

t.test('news that come while slots are asked for make them be asked for again', async (t) => {
  const { queue, started, enqueue, shared } = start(t)
  let answer = (_isGiven: boolean) => {}
  const take = shared.take.bind(shared)
  shared.take = () => {
    shared.take = take
    return new Promise((resolve) => {
      answer = resolve
    })
  }
  await enqueue(ticket('a', 0))
  shared.free = 1
  queue.retry()
  await settled()
  t.same(shared.asked, [], 'one at a time')
  answer(false)
  await settled()
  t.same(started, ['a0'])
})

for (const [why, leave] of [
  ['whose ticket has left', ({ one }) => one.leave()],
  ['of a queue that was paused', ({ queue }) => queue.pause()],
] as [string, (its: { one: ReturnType<typeof ticket>; queue: { pause(): void } }) => void][]) {
  t.test(`a slot ${why} meanwhile is given back`, async (t) => {
    const { queue, started, shared, enqueue } = start(t)
    let give = (_isGiven: boolean) => {}
    shared.take = () =>
      new Promise((resolve) => {
        give = resolve
      })
    const one = ticket('a', 0)
    await enqueue(one)
    leave({ one, queue })
    give(true)
    await settled()
    t.same(shared.released, ['a0'])
    t.same(started, [])
  })
}

t.test('replies that wait at other servers count towards a user’s limit', async (t) => {
  const { queue, shared } = start(t, { maxConcurrent: 1, userMaxWaiting: 3 })
  await queue.reserve(ticket('a', 0))
  t.same(shared.told, [], 'the first can start here')
  shared.waitingOfUser = 2
  await queue.reserve(ticket('a', 1))
  t.same(shared.told, [['a', 2]])
  await t.rejects(queue.reserve(ticket('a', 2)), { code: 'USER_QUEUE_FULL' })
  t.same(shared.told.slice(1), [
    ['a', 3],
    ['a', 2],
  ])
})

t.test('replies that wait at other servers count towards the limit of all', async (t) => {
  const { queue, shared, pass } = start(t, { maxConcurrent: 1, maxWaiting: 3 })
  shared.elsewhere.waiting = 2
  await queue.reserve(ticket('a', 0))
  await pass(renewMs)
  await queue.reserve(ticket('b', 0))
  await t.rejects(queue.reserve(ticket('c', 0)), { code: 'QUEUE_FULL' })
})

t.test('other servers are told when fewer replies of a user wait', async (t) => {
  const { queue, enqueue, shared } = start(t, { maxConcurrent: 1 })
  const [first, second] = [ticket('a', 0), ticket('a', 1)]
  const places = [await queue.reserve(first), await queue.reserve(second)]
  t.same(shared.told.splice(0), [['a', 2]])
  for (const place of places) queue.giveBack(place)
  t.same(shared.told.splice(0), [
    ['a', 1],
    ['a', 0],
  ])
  await enqueue(second)
  second.leave()
  t.same(shared.told, [], 'of one they know nothing of they are not')
})

t.test('a renewal names the replies that run, and how many of each user wait', async (t) => {
  const { enqueue, shared, pass } = start(t)
  shared.free = 1
  const waits = ticket('a', 1)
  for (const one of [ticket('a', 0), waits, ticket('b', 0)]) await enqueue(one)
  await pass(renewMs)
  t.same(shared.renewed, [{ held: ['a0'], waiting: { a: 1, b: 1 } }])
  waits.leave()
  t.same(shared.told.at(-1), ['a', 0])
  await pass(renewMs)
  t.same(shared.renewed.at(-1), { held: ['a0'], waiting: { b: 1 } })
})

t.test('replies that run at other servers take turns before one that waits here', async (t) => {
  const { queue, enqueue, done, shared, pass } = start(t, { maxConcurrent: 1 })
  shared.free = 1
  const first = ticket('a', 0)
  await enqueue(first)
  await pass(renewMs)
  await done(first)
  shared.elsewhere.running = ['x']
  await pass(renewMs)
  const waits = ticket('a', 1)
  await enqueue(waits)
  // A reply takes a second; of the other server's half of it is left.
  t.same(queue.positionOf(waits), { position: 1, estimatedStart: new Date(2500) })
})

t.test('a paused queue tells others that nobody waits here, and asks no more', async (t) => {
  const { queue, enqueue, shared, pass } = start(t)
  for (const n of [0, 1]) await enqueue(ticket('a', n))
  await pass(renewMs)
  shared.renewed.length = 0
  queue.pause()
  t.same(shared.renewed, [{ held: [], waiting: { a: 0 } }])
  shared.asked.length = 0
  await pass(10 * renewMs)
  t.same([shared.asked, shared.renewed.length], [[], 1])
})

t.test('positions that change often are told once for all changes', async (t) => {
  const { enqueue, pass } = start(t)
  const tickets = ['a', 'b', 'c', 'd'].map((userId) => ticket(userId, 0))
  for (const one of tickets) await enqueue(one)
  await pass(200)
  const [first, second, third, last] = tickets
  const told: (number | undefined)[] = []
  if (last) last.waitAt = ({ position }) => void told.push(position)
  if (third) third.waitAt = () => void told.push(undefined)
  second?.leave()
  first?.leave()
  await pass(199)
  t.same(told, [])
  await pass(1)
  t.same(told, [undefined, 2])
})

t.test('a position that has not changed is not told again', async (t) => {
  const { enqueue, pass } = start(t)
  const [first, last] = [ticket('a', 0), ticket('b', 0)]
  for (const one of [first, last]) await enqueue(one)
  await pass(200)
  let told = 0
  first.waitAt = () => void told++
  last.leave()
  await pass(200)
  t.equal(told, 0)
})
