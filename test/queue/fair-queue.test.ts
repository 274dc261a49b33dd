import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import {
  type EarlierTickets,
  FairQueue,
  type QueueLimits,
  type QueuePosition,
  type Ticket,
} from '../../src/queue/fair-queue.js'
import { eventually } from '../services/eventually.js'

function makeQueue(
  limits: Partial<QueueLimits> = {},
  earlier: EarlierTickets<Ticket> = { mayBe: false, goBefore: async () => false },
  now?: () => number,
) {
  const started: string[] = []
  const slots = new Map<string, QueuePosition>()
  const queue = new FairQueue<Ticket>(
    { maxConcurrent: 1, userMaxConcurrent: 1, maxWaiting: 1000, userMaxWaiting: 1000, ...limits },
    (ticket) => started.push(ticket.id),
    (ticket, place) => slots.set(ticket.id, place),
    earlier,
    undefined,
    now,
  )
  return { queue, started, slots }
}

const ticket = (userId: string, n: number, chatId = `${userId}-chat-${n}`): Ticket => ({
  id: `${userId}${n}`,
  userId,
  chatId,
  seq: n,
})

t.test('a user with 100 waiting replies delays another’s first by one turn', async (t) => {
  const { queue, started } = makeQueue()
  const ofA = Array.from({ length: 100 }, (_, n) => ticket('a', n))
  for (const one of ofA) queue.enqueue(one)
  const b = ticket('b', 0)
  queue.enqueue(b)
  t.same(queue.place(b), { position: 2 })
  const first = ofA[0]
  if (first) queue.done(first)
  const second = ofA[1]
  if (second) queue.done(second)
  t.same(started, ['a0', 'a1', 'b0'])
})

t.test('limits hold: all at once, of one user, of one chat', async (t) => {
  const { queue, started } = makeQueue({ maxConcurrent: 3, userMaxConcurrent: 2 })
  const sameChat = [
    ticket('a', 0, 'one'),
    ticket('a', 1, 'one'),
    ticket('a', 2, 'two'),
    ticket('a', 3),
  ]
  for (const one of sameChat) queue.enqueue(one)
  t.same(started, ['a0', 'a2'], 'the second of a chat waits, and a third of a user')
  for (const n of [0, 1]) queue.enqueue(ticket('b', n))
  t.same(started, ['a0', 'a2', 'b0'], 'three at once')
  const [first] = sameChat
  if (first) queue.done(first)
  t.same(started, ['a0', 'a2', 'b0', 'a1'])
})

t.test('replies of a chat run in their order, whatever order they came in', async (t) => {
  const { queue, started } = makeQueue()
  const running = ticket('a', 0, 'one')
  queue.enqueue(running)
  queue.enqueue(ticket('a', 3, 'one'))
  queue.enqueue(ticket('a', 1, 'two'))
  const taken = ticket('a', 2, 'one')
  queue.enqueue(taken)
  t.same(queue.place(taken), { position: 2 })
  queue.done(running)
  t.same(started, ['a0', 'a1'])
  queue.done(ticket('a', 1, 'two'))
  queue.done(taken)
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
  reserved.giveBack()
  reserved.giveBack()
  await queue.reserve(a)
  await t.rejects(queue.reserve(a), { code: 'QUEUE_FULL' }, 'a place is given back once')
  t.equal((await queue.reserve(b)).toRun, true, 'another user’s can run')
  await t.rejects(queue.reserve(ticket('c', 0)), { code: 'QUEUE_FULL' }, 'and then nobody’s')
})

t.test('a place to run that is held for a ticket is taken by no other', async (t) => {
  const { queue, started } = makeQueue({ maxConcurrent: 2, userMaxConcurrent: 2 })
  const [a, b, c] = [ticket('a', 0, 'one'), ticket('b', 0), ticket('c', 0)]
  const [place, unused] = [await queue.reserve(a), await queue.reserve(b)]
  t.same([place.toRun, unused.toRun], [true, true])
  queue.enqueue(ticket('a', 1, 'one'))
  queue.enqueue(c)
  t.same(started, [], 'neither another’s nor a later one of its chat')
  queue.enqueue(a, place)
  t.same(started, ['a0'])
  place.giveBack()
  t.same(started, ['a0'], 'what was used is not given back')
  unused.giveBack()
  t.same(started, ['a0', 'c0'], 'what was not used goes to who waits')
  queue.done(a)
  t.same(started, ['a0', 'c0', 'a1'])
})

t.test('a ticket that can start at once finds a place in a full queue', async (t) => {
  const { queue, started } = makeQueue({ maxConcurrent: 2, maxWaiting: 1 })
  for (const n of [0, 1]) queue.enqueue(ticket('a', n))
  await t.rejects(queue.reserve(ticket('a', 2)), { code: 'QUEUE_FULL' })
  const b = ticket('b', 0)
  queue.enqueue(b, await queue.reserve(b))
  t.same(started, ['a0', 'b0'])
  await t.rejects(queue.reserve(ticket('c', 0)), { code: 'QUEUE_FULL' }, 'that one would wait')
})

t.test('who leaves makes room at once and never runs', async (t) => {
  const { queue, started } = makeQueue()
  const [a, b, c] = [ticket('a', 0), ticket('b', 0), ticket('c', 0)]
  for (const one of [a, b, c]) queue.enqueue(one)
  t.equal(queue.leave(b), true)
  t.equal(queue.leave(b), false)
  t.same(queue.place(c), { position: 1 })
  queue.done(a)
  await turn()
  t.same(started, ['a0', 'c0'])
})

t.test('places are those in which turns are then taken, and are told', async (t) => {
  const { queue, started, slots } = makeQueue({ maxConcurrent: 1, userMaxConcurrent: 10 })
  const seed = Number(process.env.SEED ?? Date.now() % 100_000)
  t.comment(`seed ${seed}`)
  let state = seed
  const random = (n: number) => {
    state = (state * 1103515245 + 12345) % 2147483648
    return state % n
  }
  const tickets = Array.from({ length: 60 }, (_, n) => ticket('abcdef'[random(6)] ?? 'a', n))
  for (const one of tickets) queue.enqueue(one)
  const waiting = tickets.filter((one) => !started.includes(one.id))
  const expected = [...waiting].sort(
    (x, y) => (queue.place(x)?.position ?? 0) - (queue.place(y)?.position ?? 0),
  )
  await eventually('the places are told', () =>
    expected.every((one, index) => slots.get(one.id)?.position === index + 1),
  )
  t.equal(slots.size, waiting.length)
  for (let n = 0; n < tickets.length; n++) {
    const running = tickets.find((one) => one.id === started[n])
    if (running) queue.done(running)
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
  const { queue, started } = makeQueue({ maxConcurrent: 2, userMaxConcurrent: 2 }, earlier)
  const behind = ticket('a', 1, 'one')
  t.equal((await queue.reserve(behind)).toRun, false, 'it must be asked')
  queue.enqueue(behind)
  queue.enqueue(ticket('a', 2, 'two'))
  await eventually('the other chat’s runs', () => started.length > 0)
  t.same(started, ['a2'])
  inTheWay.clear()
  earlier.mayBe = false
  const later = ticket('a', 3, 'one')
  const reservation = await queue.reserve(later)
  t.equal(reservation.toRun, false, 'not before the one that waits')
  queue.enqueue(later, reservation)
  t.same(started, ['a2', 'a1'], 'which nothing is in the way of any more')
  queue.done(behind)
  t.same(started, ['a2', 'a1', 'a3'])
})

t.test('what is begun while one is asked about counts', async (t) => {
  let answer = (_goBefore: boolean) => {}
  const answered = new Promise<boolean>((resolve) => {
    answer = resolve
  })
  const earlier = { mayBe: true, goBefore: () => answered }
  const { queue, started } = makeQueue({}, earlier)
  queue.enqueue(ticket('a', 1))
  earlier.mayBe = false
  const other = ticket('b', 1)
  const reservation = await queue.reserve(other)
  t.equal(reservation.toRun, true)
  queue.enqueue(other, reservation)
  answer(false)
  await turn()
  t.same(started, ['b1'], 'one place, one that runs')
  queue.done(other)
  t.same(started, ['b1', 'a1'])
})

t.test('a user at its limit is not before one who can start', async (t) => {
  const { queue, started } = makeQueue({ maxConcurrent: 4, userMaxConcurrent: 2 })
  for (const n of [0, 1]) queue.enqueue(ticket('c', n))
  for (const n of [0, 1, 2, 3, 4, 5]) queue.enqueue(ticket('a', n))
  t.same(started, ['c0', 'c1', 'a0', 'a1'])
  const b = ticket('b', 0)
  queue.enqueue(b)
  t.same(queue.place(b), { position: 1 })
  queue.done(ticket('c', 0))
  t.equal(started.at(-1), 'b0')
})

t.test('replies of a busy chat are not before one of another chat', async (t) => {
  const { queue, started } = makeQueue({ maxConcurrent: 2, userMaxConcurrent: 2 })
  queue.enqueue(ticket('b', 0))
  for (const n of [0, 1, 2, 3, 4, 5]) queue.enqueue(ticket('a', n, 'busy'))
  const other = ticket('a', 6, 'other')
  queue.enqueue(other)
  t.same(queue.place(other), { position: 1 })
  queue.done(ticket('b', 0))
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
    const { queue, started } = makeQueue(limits, undefined, () => now)
    const tickets = new Map<string, Ticket>()
    const startedAt = new Map<string, number>()
    const note = () => {
      for (const id of started) if (!startedAt.has(id)) startedAt.set(id, now)
    }
    const send = (n: number) => {
      const userId = 'abcdef'[random(6)] ?? 'a'
      const one = ticket(userId, n, `${userId}-chat-${random(4)}`)
      tickets.set(one.id, one)
      queue.enqueue(one)
      note()
    }
    /** Ends the replies that are over at `until`, in the order in which they began. */
    const pass = (until: number) => {
      for (let n = ended; n < started.length; n = ended) {
        const id = started[n] ?? ''
        const endsAt = (startedAt.get(id) ?? 0) + replyMs
        if (endsAt > until) break
        now = endsAt
        ended += 1
        const one = tickets.get(id)
        if (one) queue.done(one)
        note()
      }
      now = until
    }
    let ended = 0
    // The first reply tells how long replies take.
    send(0)
    pass(replyMs)
    for (let n = 1; n < 30; n++) {
      send(n)
      pass(now + random(150))
    }
    const waiting = [...tickets.values()].filter(({ id }) => !started.includes(id))
    const told = new Map(waiting.map((one) => [one.id, queue.place(one)]))
    const startedBefore = started.length
    pass(1_000_000)
    const came = started.slice(startedBefore).map((id, index) => {
      const estimatedStart = new Date(startedAt.get(id) ?? 0)
      return [id, { position: index + 1, estimatedStart }] as const
    })
    t.strictSame(told, new Map(came), `round ${round}`)
  }
})

t.test('of one user only so many wait, and others have room', async (t) => {
  const { queue } = makeQueue({ maxConcurrent: 2, userMaxConcurrent: 1, userMaxWaiting: 3 })
  for (const n of [0, 1, 2, 3]) {
    const one = ticket('a', n)
    queue.enqueue(one, await queue.reserve(one))
  }
  t.equal(queue.waitingCount, 3)
  const full = { code: 'USER_QUEUE_FULL', statusCode: 429, retryAfter: 1, retryable: true }
  await t.rejects(queue.reserve(ticket('a', 4)), full)
  for (const n of [0, 1]) {
    const theirs = ticket('b', n)
    queue.enqueue(theirs, await queue.reserve(theirs))
  }
  queue.leave(ticket('a', 3))
  const held = await queue.reserve(ticket('a', 4))
  await t.rejects(queue.reserve(ticket('a', 5)), full, 'what is held for a reply counts')
  held.giveBack()
  t.equal((await queue.reserve(ticket('a', 5))).toRun, false)
})
