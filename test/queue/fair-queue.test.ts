import t from 'tap'
import type { Ticket } from '../../src/queue/fair-order.js'
import { eventually } from '../services/eventually.js'
import { makeQueue, settled } from './make-queue.js'
import { type TestTicket, ticket } from './test-ticket.js'

t.test('a user with 100 waiting replies delays another’s first by one turn', async (t) => {
  const { queue, started, enqueue, done } = makeQueue()
  const ofA = Array.from({ length: 100 }, (_, n) => ticket('a', n))
  for (const one of ofA) await enqueue(one)
  const b = ticket('b', 0)
  await enqueue(b)
  t.same(queue.positionOf(b), { position: 2 })
  const first = ofA[0]
  if (first) await done(first)
  const second = ofA[1]
  if (second) await done(second)
  t.same(started, ['a0', 'a1', 'b0'])
})

t.test('limits hold: all at once, of one user, of one chat', async (t) => {
  const { started, enqueue, done } = makeQueue({ maxConcurrent: 3, userMaxConcurrent: 2 })
  const sameChat = [
    ticket('a', 0, 'one'),
    ticket('a', 1, 'one'),
    ticket('a', 2, 'two'),
    ticket('a', 3),
  ]
  for (const one of sameChat) await enqueue(one)
  t.same(started, ['a0', 'a2'], 'the second of a chat waits, and a third of a user')
  for (const n of [0, 1]) await enqueue(ticket('b', n))
  t.same(started, ['a0', 'a2', 'b0'], 'three at once')
  const [first] = sameChat
  if (first) await done(first)
  t.same(started, ['a0', 'a2', 'b0', 'a1'])
})

t.test('replies of a chat run in their order, whatever order they came in', async (t) => {
  const { queue, started, enqueue, done } = makeQueue()
  const running = ticket('a', 0, 'one')
  await enqueue(running)
  await enqueue(ticket('a', 3, 'one'))
  await enqueue(ticket('a', 1, 'two'))
  const taken = ticket('a', 2, 'one')
  await enqueue(taken)
  t.same(queue.positionOf(taken), { position: 2 })
  await done(running)
  t.same(started, ['a0', 'a1'])
  await done(ticket('a', 1, 'two'))
  await done(taken)
  t.same(started, ['a0', 'a1', 'a2', 'a3'])
})

t.test('past its length it is full, and says when to come again', async (t) => {
  const { queue } = makeQueue({ maxConcurrent: 2, maxWaiting: 2 })
  const [a, b] = [ticket('a', 0), ticket('b', 0)]
  const reserved = await queue.reserve(a)
  await queue.reserve(a)
  await queue.reserve(a)
  const full = { code: 'QUEUE_FULL', statusCode: 503, retryAfter: 1 }
  await t.rejects(queue.reserve(a), full, 'of one user one may start at once, and two wait')
  queue.giveBack(reserved)
  queue.giveBack(reserved)
  await queue.reserve(a)
  await t.rejects(queue.reserve(a), { code: 'QUEUE_FULL' }, 'a place is given back once')
  t.equal((await queue.reserve(b)).hasSlot, true, 'another user’s can run')
  await t.rejects(queue.reserve(ticket('c', 0)), { code: 'QUEUE_FULL' }, 'and then nobody’s')
})

t.test('a place to run that is held for a ticket is taken by no other', async (t) => {
  const { queue, started, enqueue, done } = makeQueue({ maxConcurrent: 2, userMaxConcurrent: 2 })
  const [a, b, c] = [ticket('a', 0, 'one'), ticket('b', 0), ticket('c', 0)]
  const [place, unused] = [await queue.reserve(a), await queue.reserve(b)]
  t.same([place.hasSlot, unused.hasSlot], [true, true])
  await enqueue(ticket('a', 1, 'one'))
  await enqueue(c)
  t.same(started, [], 'neither another’s nor a later one of its chat')
  await enqueue(a, place)
  t.same(started, ['a0'])
  queue.giveBack(place)
  t.same(started, ['a0'], 'what was used is not given back')
  queue.giveBack(unused)
  await settled()
  t.same(started, ['a0', 'c0'], 'what was not used goes to who waits')
  await done(a)
  t.same(started, ['a0', 'c0', 'a1'])
})

t.test('a ticket that can start at once finds a place in a full queue', async (t) => {
  const { queue, started, enqueue } = makeQueue({ maxConcurrent: 2, maxWaiting: 1 })
  for (const n of [0, 1]) await enqueue(ticket('a', n))
  await t.rejects(queue.reserve(ticket('a', 2)), { code: 'QUEUE_FULL' })
  const b = ticket('b', 0)
  await enqueue(b, await queue.reserve(b))
  t.same(started, ['a0', 'b0'])
  await t.rejects(queue.reserve(ticket('c', 0)), { code: 'QUEUE_FULL' }, 'that one would wait')
})

t.test('who leaves makes room at once and never runs', async (t) => {
  const { queue, started, enqueue, done } = makeQueue()
  const [a, b, c] = [ticket('a', 0), ticket('b', 0), ticket('c', 0)]
  for (const one of [a, b, c]) await enqueue(one)
  b.leave()
  t.same(queue.positionOf(c), { position: 1 })
  await done(a)
  t.same(started, ['a0', 'c0'])
})

t.test('places are those in which turns are then taken, and are told', async (t) => {
  const { queue, started, enqueue, done } = makeQueue({ maxConcurrent: 1, userMaxConcurrent: 10 })
  const seed = Number(process.env.SEED ?? Date.now() % 100_000)
  t.comment(`seed ${seed}`)
  let state = seed
  const random = (n: number) => {
    state = (state * 1103515245 + 12345) % 2147483648
    return state % n
  }
  const tickets = Array.from({ length: 60 }, (_, n) => ticket('abcdef'[random(6)] ?? 'a', n))
  for (const one of tickets) await enqueue(one)
  const waiting = tickets.filter((one) => !started.includes(one.id))
  const expected = [...waiting].sort(
    (x, y) => (queue.positionOf(x)?.position ?? 0) - (queue.positionOf(y)?.position ?? 0),
  )
  await eventually('the places are told', () =>
    expected.every((one, index) => one.position?.position === index + 1),
  )
  for (let n = 0; n < tickets.length; n++) {
    const running = tickets.find((one) => one.id === started[n])
    if (running) await done(running)
  }
  t.same(
    started.slice(1),
    expected.map((one) => one.id),
  )
})

t.test('what nobody here has goes before later ones of its chat', async (t) => {
  const inTheWay = new Set(['one'])
  const earlier = {
    mayBe: true,
    goBefore: async ({ chatId }: Ticket) => inTheWay.has(chatId),
  }
  const { queue, started, enqueue, done } = makeQueue(
    { maxConcurrent: 2, userMaxConcurrent: 2 },
    { earlier },
  )
  const behind = ticket('a', 1, 'one')
  t.equal((await queue.reserve(behind)).hasSlot, false, 'it must be asked')
  await enqueue(behind)
  await enqueue(ticket('a', 2, 'two'))
  await eventually('the other chat’s runs', () => started.length > 0)
  t.same(started, ['a2'])
  inTheWay.clear()
  earlier.mayBe = false
  const later = ticket('a', 3, 'one')
  const reservation = await queue.reserve(later)
  t.equal(reservation.hasSlot, false, 'not before the one that waits')
  await enqueue(later, reservation)
  t.same(started, ['a2', 'a1'], 'which nothing is in the way of any more')
  await done(behind)
  t.same(started, ['a2', 'a1', 'a3'])
})

t.test('what is begun while one is asked about counts', async (t) => {
  let answer = (_goBefore: boolean) => {}
  const answered = new Promise<boolean>((resolve) => {
    answer = resolve
  })
  const earlier = { mayBe: true, goBefore: () => answered }
  const { queue, started, enqueue, done } = makeQueue({}, { earlier })
  await enqueue(ticket('a', 1))
  earlier.mayBe = false
  const other = ticket('b', 1)
  const reservation = await queue.reserve(other)
  t.equal(reservation.hasSlot, true)
  await enqueue(other, reservation)
  answer(false)
  await settled()
  t.same(started, ['b1'], 'one place, one that runs')
  await done(other)
  t.same(started, ['b1', 'a1'])
})

t.test('a user at its limit is not before one who can start', async (t) => {
  const { queue, started, enqueue, done } = makeQueue({ maxConcurrent: 4, userMaxConcurrent: 2 })
  for (const n of [0, 1]) await enqueue(ticket('c', n))
  for (const n of [0, 1, 2, 3, 4, 5]) await enqueue(ticket('a', n))
  t.same(started, ['c0', 'c1', 'a0', 'a1'])
  const b = ticket('b', 0)
  await enqueue(b)
  t.same(queue.positionOf(b), { position: 1 })
  await done(ticket('c', 0))
  t.equal(started.at(-1), 'b0')
})

t.test('replies of a busy chat are not before one of another chat', async (t) => {
  const { queue, started, enqueue, done } = makeQueue({ maxConcurrent: 2, userMaxConcurrent: 2 })
  await enqueue(ticket('b', 0))
  for (const n of [0, 1, 2, 3, 4, 5]) await enqueue(ticket('a', n, 'busy'))
  const other = ticket('a', 6, 'other')
  await enqueue(other)
  t.same(queue.positionOf(other), { position: 1 })
  await done(ticket('b', 0))
  t.equal(started.at(-1), 'a6')
})

t.test('positions and times are those at which replies of equal length start', async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 100_000)
  t.comment(`seed ${seed}`)
  let state = seed
  const random = (n: number) => {
    state = (state * 1103515245 + 12345) % 2147483648
    return Math.floor((state / 2147483648) * n)
  }
  const replyMs = 1000
  for (let round = 0; round < 40; round++) {
    let now = 0
    const limits = { maxConcurrent: 1 + random(4), userMaxConcurrent: 1 + random(3) }
    const { queue, started, enqueue, done } = makeQueue(limits, { now: () => now })
    const tickets = new Map<string, TestTicket>()
    const startedAt = new Map<string, number>()
    const note = () => {
      for (const id of started) if (!startedAt.has(id)) startedAt.set(id, now)
    }
    const send = async (n: number) => {
      const userId = 'abcdef'[random(6)] ?? 'a'
      const one = ticket(userId, n, `${userId}-chat-${random(4)}`)
      tickets.set(one.id, one)
      await enqueue(one)
      note()
    }
    /** Ends the replies that are over at `until`, in the order in which they began. */
    const pass = async (until: number) => {
      for (let n = ended; n < started.length; n = ended) {
        const id = started[n] ?? ''
        const endsAt = (startedAt.get(id) ?? 0) + replyMs
        if (endsAt > until) break
        now = endsAt
        ended += 1
        const one = tickets.get(id)
        if (one) await done(one)
        note()
      }
      now = until
    }
    let ended = 0
    // The first reply tells how long replies take.
    await send(0)
    await pass(replyMs)
    for (let n = 1; n < 30; n++) {
      await send(n)
      await pass(now + random(150))
    }
    const waiting = [...tickets.values()].filter(({ id }) => !started.includes(id))
    const told = new Map(waiting.map((one) => [one.id, queue.positionOf(one)]))
    const startedBefore = started.length
    await pass(1_000_000)
    const came = started.slice(startedBefore).map((id, index) => {
      const estimatedStart = new Date(startedAt.get(id) ?? 0)
      return [id, { position: index + 1, estimatedStart }] as const
    })
    t.strictSame(told, new Map(came), `round ${round}`)
  }
})

t.test('of one user only so many wait, and others have room', async (t) => {
  const { queue, enqueue } = makeQueue({
    ...{ maxConcurrent: 2, userMaxConcurrent: 1, userMaxWaiting: 3 },
  })
  let last = ticket('a', 0)
  for (const n of [0, 1, 2, 3]) {
    last = ticket('a', n)
    await enqueue(last, await queue.reserve(last))
  }
  t.equal(queue.waitingCount, 3)
  const full = { code: 'USER_QUEUE_FULL', statusCode: 429, retryAfter: 1, retryable: true }
  await t.rejects(queue.reserve(ticket('a', 4)), full)
  for (const n of [0, 1]) {
    const theirs = ticket('b', n)
    await enqueue(theirs, await queue.reserve(theirs))
  }
  last.leave()
  const held = await queue.reserve(ticket('a', 4))
  await t.rejects(queue.reserve(ticket('a', 5)), full, 'what is held for a reply counts')
  queue.giveBack(held)
  t.equal((await queue.reserve(ticket('a', 5))).hasSlot, false)
})

t.test('a full queue says to come again when a slot is likely to be free', async (t) => {
  for (const [replyMs, retryAfter] of [
    [400, 1],
    [10_000, 5],
    [10_001, 6],
    [1_000_000, 60],
  ] as const) {
    let now = 0
    const limits = { maxConcurrent: 2, userMaxConcurrent: 1, maxWaiting: 0 }
    const { queue, enqueue, done } = makeQueue(limits, { now: () => now })
    const first = ticket('a', 0)
    await enqueue(first)
    now = replyMs
    await done(first)
    for (const userId of ['a', 'b']) await enqueue(ticket(userId, 1))
    await t.rejects(queue.reserve(ticket('c', 0)), { code: 'QUEUE_FULL', retryAfter }, `${replyMs}`)
  }
})

t.test('a user’s full queue says when one of the user’s slots is likely to be free', async (t) => {
  let now = 0
  const limits = { maxConcurrent: 9, userMaxConcurrent: 1, userMaxWaiting: 0 }
  const { queue, enqueue, done } = makeQueue(limits, { now: () => now })
  for (const n of [0, 1, 2]) {
    const one = ticket('a', n)
    await enqueue(one)
    now += n === 0 ? 10_000 : 20_000
    if (n < 2) await done(one)
  }
  // 10 s, then a fifth of 20 s and the rest of 10 s.
  const full = { code: 'USER_QUEUE_FULL', retryAfter: 12 }
  await t.rejects(queue.reserve(ticket('a', 3)), full)
})

t.test('a ticket that was taken out before its turn is asked for never waits', async (t) => {
  const { queue } = makeQueue()
  const one = ticket('a', 0)
  one.leave()
  t.equal(await queue.turn(one), false)
  t.same([queue.runningCount, queue.waitingCount], [0, 0])
})

t.test('a ticket that leaves hears so, and one that runs does not leave', async (t) => {
  const { queue } = makeQueue()
  const [runs, waits] = [ticket('a', 0), ticket('b', 0)]
  t.equal(await queue.turn(runs), true)
  const turn = queue.turn(waits)
  waits.leave()
  t.equal(await turn, false)
  runs.leave()
  t.same([queue.runningCount, queue.waitingCount], [1, 0])
})

t.test('a slot is given back once', async (t) => {
  const { queue, started, enqueue, done } = makeQueue()
  const [first, second] = [ticket('a', 0), ticket('b', 0)]
  for (const one of [first, second, ticket('c', 0)]) await enqueue(one)
  await done(first)
  await done(first)
  t.same(started, ['a0', 'b0'])
  t.equal(queue.runningCount, 1)
})

t.test('a paused queue gives no slot, neither to who waits nor to who comes', async (t) => {
  const { queue, started, enqueue, done } = makeQueue()
  const first = ticket('a', 0)
  for (const one of [first, ticket('b', 0)]) await enqueue(one)
  queue.pause()
  await done(first)
  t.equal((await queue.reserve(ticket('c', 0))).hasSlot, false)
  await enqueue(ticket('c', 0))
  t.same(started, ['a0'])
})

t.test('positions that are held for one user’s replies are not counted as another’s', async (t) => {
  const { queue, enqueue } = makeQueue({ userMaxWaiting: 1 })
  await enqueue(ticket('x', 0))
  await queue.reserve(ticket('a', 0))
  t.equal((await queue.reserve(ticket('b', 0))).hasSlot, false)
  await t.rejects(queue.reserve(ticket('b', 1)), { code: 'USER_QUEUE_FULL' })
})

t.test(
  'a ticket that waits is told its position at once, and one that runs is told none',
  async (t) => {
    const { enqueue } = makeQueue()
    const told: unknown[] = []
    for (const userId of ['a', 'b']) {
      const one = ticket(userId, 0)
      one.waitAt = (position) => void told.push([one.id, position])
      await enqueue(one)
    }
    t.same(told, [['b0', { position: 1 }]])
  },
)

t.test('a slot that is held for a reply is expected to be free after a reply’s time', async (t) => {
  let now = 0
  const { queue, enqueue, done } = makeQueue({}, { now: () => now })
  const first = ticket('a', 0)
  await enqueue(first)
  now = 1000
  await done(first)
  t.equal((await queue.reserve(ticket('a', 1))).hasSlot, true)
  t.equal((await queue.reserve(ticket('c', 0))).hasSlot, false)
  const waiting = [ticket('b', 0), ticket('b', 1)]
  for (const one of waiting) await enqueue(one)
  t.same(
    waiting.map((one) => queue.positionOf(one)),
    [2000, 3000].map((ms, n) => ({ position: n + 1, estimatedStart: new Date(ms) })),
  )
})
