import t from 'tap'
import { FairOrder, type QueueLimits } from '../../src/queue/fair-order.js'
import { forecast } from '../../src/queue/forecast.js'
import { type TestTicket, ticket } from './test-ticket.js'

const now = 10_000

interface Scene {
  waiting: TestTicket[]
  running?: { ticket: TestTicket; since: number }[]
  reserved?: TestTicket[]
  elsewhere?: string[]
  meanMs?: number
  limits?: Partial<QueueLimits>
}

/** The ids of the waiting tickets with their positions, and in how many milliseconds each starts. */
function foresee({ waiting, running = [], reserved = [], elsewhere = [], ...rest }: Scene) {
  const order = new FairOrder<TestTicket>({
    ...{ maxConcurrent: 1, userMaxConcurrent: 1, maxWaiting: 9, userMaxWaiting: 9 },
    ...rest.limits,
  })
  for (const { ticket } of running) order.occupy(ticket)
  for (const request of reserved) order.occupy(request)
  for (const one of waiting) order.add(one)
  const known = { order, running, reserved, elsewhere, meanMs: rest.meanMs, now }
  const told = [...forecast(known)].map(([{ id }, { position, estimatedStart }]) =>
    estimatedStart ? [id, position, estimatedStart.getTime() - now] : [id, position],
  )
  t.equal(order.waitingCount, waiting.length, 'the order itself stays as it is')
  return told
}

t.test('each starts when a slot is free, one mean time after the other', async (t) => {
  const waiting = [ticket('a', 1), ticket('a', 2), ticket('b', 1)]
  const running = [{ ticket: ticket('c', 1), since: now - 400 }]
  t.same(foresee({ waiting, running, meanMs: 1000 }), [
    ['a1', 1, 600],
    ['b1', 2, 1600],
    ['a2', 3, 2600],
  ])
})

t.test('those that can start now are first', async (t) => {
  const waiting = [ticket('a', 1), ticket('a', 2), ticket('b', 1)]
  t.same(foresee({ waiting, meanMs: 1000, limits: { maxConcurrent: 2 } }), [
    ['a1', 1, 0],
    ['b1', 2, 0],
    ['a2', 3, 1000],
  ])
})

t.test('a reply that has run for longer than the mean time ends now', async (t) => {
  const running = [{ ticket: ticket('c', 1), since: now - 5000 }]
  t.same(foresee({ waiting: [ticket('a', 1)], running, meanMs: 1000 }), [['a1', 1, 0]])
})

t.test('the reply that began first ends first', async (t) => {
  const running = [
    { ticket: ticket('a', 1), since: now - 100 },
    { ticket: ticket('b', 1), since: now - 700 },
  ]
  const waiting = [ticket('a', 2), ticket('b', 2)]
  const limits = { maxConcurrent: 2 }
  t.same(foresee({ waiting, running, limits, meanMs: 1000 }), [
    ['b2', 1, 300],
    ['a2', 2, 900],
  ])
})

t.test('before a mean time is known, there are positions and no times', async (t) => {
  const running = [
    { ticket: ticket('a', 1), since: now - 7 },
    { ticket: ticket('b', 1), since: now - 5 },
  ]
  const waiting = [ticket('b', 2), ticket('a', 2), ticket('a', 3)]
  t.same(
    foresee({ waiting, running, limits: { maxConcurrent: 2 } }),
    [
      ['a2', 1],
      ['b2', 2],
      ['a3', 3],
    ],
    'the replies that began first are taken to end first',
  )
})

t.test('a slot that is held for a ticket to come is taken for a mean time', async (t) => {
  const reserved = [ticket('c', 1)]
  t.same(foresee({ waiting: [ticket('a', 1)], reserved, meanMs: 1000 }), [['a1', 1, 1000]])
})

t.test('replies of other servers take slots, and end evenly spread', async (t) => {
  const waiting = [ticket('a', 1), ticket('b', 1), ticket('c', 1)]
  const limits = { maxConcurrent: 3 }
  t.same(foresee({ waiting, limits, elsewhere: ['x', 'y', 'z'], meanMs: 1000 }), [
    ['a1', 1, 250],
    ['b1', 2, 500],
    ['c1', 3, 750],
  ])
})

t.test('replies of a user at other servers count for the user', async (t) => {
  const waiting = [ticket('a', 1), ticket('b', 1)]
  const limits = { maxConcurrent: 2 }
  t.same(foresee({ waiting, limits, elsewhere: ['a'], meanMs: 1000 }), [
    ['b1', 1, 0],
    ['a1', 2, 500],
  ])
})

t.test('nobody waits: nothing is foreseen', async (t) => {
  const running = [{ ticket: ticket('c', 1), since: now }]
  t.same(foresee({ waiting: [], running, meanMs: 1000 }), [])
})
