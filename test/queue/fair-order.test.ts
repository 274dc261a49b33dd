import t from 'tap'
import { FairOrder, type QueueLimits } from '../../src/queue/fair-order.js'
import { type TestTicket, ticket } from './test-ticket.js'

const plenty = { maxConcurrent: 9, userMaxConcurrent: 9, maxWaiting: 9, userMaxWaiting: 9 }

function makeOrder(tickets: TestTicket[], limits: Partial<QueueLimits> = {}) {
  const order = new FairOrder<TestTicket>({ ...plenty, ...limits })
  for (const one of tickets) order.add(one)
  return order
}

/** Begins tickets until none may start. @returns their ids. */
function beginAll(order: FairOrder<TestTicket>): string[] {
  const begun: string[] = []
  for (let next = order.next(); next; next = order.next()) {
    order.begin(next)
    begun.push(next.id)
  }
  return begun
}

t.test('only a ticket that was added waits', async (t) => {
  const [waiting, other, stranger] = [ticket('a', 1), ticket('a', 2), ticket('b', 1)]
  const order = makeOrder([waiting])
  t.same(
    [waiting, other, stranger].map((one) => order.has(one)),
    [true, false, false],
  )
})

t.test('a ticket that is removed waits no more', async (t) => {
  const [first, second] = [ticket('a', 1), ticket('a', 2)]
  const order = makeOrder([first, second])
  t.equal(order.remove(first), true)
  t.equal(order.has(first), false)
  t.equal(order.has(second), true)
  t.equal(order.waitingCount, 1)
  t.equal(order.waitingOf('a'), 1)
  t.equal(order.next(), second)
})

t.test('a ticket that does not wait is not removed', async (t) => {
  const waiting = ticket('a', 1)
  const order = makeOrder([waiting])
  t.equal(order.remove(ticket('a', 2)), false, 'of a user with others')
  t.equal(order.remove(ticket('b', 1)), false, 'of a user with none')
  t.equal(order.waitingCount, 1)
  t.equal(order.has(waiting), true)
})

t.test('users are those with waiting tickets', async (t) => {
  const [ofA, ofB] = [ticket('a', 1), ticket('b', 1)]
  const order = makeOrder([ofA, ofB, ticket('b', 2)])
  t.same([...order.users()], ['a', 'b'])
  order.remove(ofA)
  order.remove(ofB)
  t.same([...order.users()], ['b'])
  t.equal(order.waitingOf('a'), 0)
})

t.test('a chat has a waiting ticket until its last one leaves', async (t) => {
  const waiting = ticket('a', 1, 'one')
  const order = makeOrder([waiting, ticket('a', 2, 'two')])
  const of = (chatId: string, userId = 'a') => order.hasWaiting({ userId, chatId })
  t.same([of('one'), of('two'), of('three')], [true, true, false])
  t.equal(of('one', 'b'), false)
  order.remove(waiting)
  t.equal(of('one'), false)
})

t.test(
  'an earlier ticket of a chat goes before its later ones, but not before other chats',
  async (t) => {
    const tickets = [
      ...[ticket('a', 5, 'one'), ticket('a', 6, 'one'), ticket('a', 7, 'two')],
      ticket('a', 2, 'one'),
      ticket('a', 8, 'one'),
    ]
    const order = makeOrder(tickets, { maxConcurrent: 1 })
    const begun: string[] = []
    for (let next = order.next(); next; next = order.next()) {
      order.begin(next)
      begun.push(next.id)
      order.vacate(next)
    }
    t.same(begun, ['a7', 'a2', 'a5', 'a6', 'a8'])
  },
)

t.test('users take turns, and their oldest tickets go first', async (t) => {
  const order = makeOrder([
    ...[ticket('a', 1), ticket('a', 2), ticket('a', 3)],
    ...[ticket('b', 1), ticket('c', 1), ticket('b', 2)],
  ])
  t.same(beginAll(order), ['a1', 'b1', 'c1', 'a2', 'b2', 'a3'])
  t.same([order.waitingCount, ...order.users()], [0])
})

t.test('no more run at once than in all', async (t) => {
  const tickets = [ticket('a', 1), ticket('b', 1), ticket('c', 1)] as const
  const order = makeOrder([...tickets], { maxConcurrent: 2 })
  t.same(beginAll(order), ['a1', 'b1'])
  order.vacate(tickets[0])
  t.same(beginAll(order), ['c1'])
})

t.test('no more of a user run at once than its limit, and each that ends makes room', async (t) => {
  const [first, second] = [ticket('a', 1), ticket('a', 2)]
  const order = makeOrder(
    [first, second, ticket('a', 3), ticket('a', 4), ticket('a', 5), ticket('b', 1)],
    { userMaxConcurrent: 2 },
  )
  t.same(beginAll(order), ['a1', 'b1', 'a2'])
  order.vacate(first)
  t.same(beginAll(order), ['a3'], 'the second still counts')
  order.vacate(second)
  t.same(beginAll(order), ['a4'])
})

t.test('a ticket whose chat is busy lets the next of its user go', async (t) => {
  const order = makeOrder([ticket('a', 1, 'one'), ticket('a', 2, 'one'), ticket('a', 3, 'two')])
  t.same(beginAll(order), ['a1', 'a3'])
  order.vacate(ticket('a', 1, 'one'))
  t.same(beginAll(order), ['a2'])
})

t.test('refused users and chats are passed over', async (t) => {
  const order = makeOrder([ticket('a', 1, 'one'), ticket('a', 2, 'two'), ticket('b', 1)])
  const next = (...refused: string[]) => order.next(new Set(refused))?.id
  t.equal(next(), 'a1')
  t.equal(next('one'), 'a2')
  t.equal(next('a'), 'b1')
  t.equal(next('one', 'two'), 'b1')
  t.equal(next('a', 'b'), undefined)
})

t.test('as many can start as slots are free, in all and of the user', async (t) => {
  const order = makeOrder([], { maxConcurrent: 3, userMaxConcurrent: 2 })
  t.equal(order.startable(ticket('a', 1)), 2)
  order.occupy(ticket('a', 2))
  t.equal(order.startable(ticket('a', 1)), 1)
  order.occupy(ticket('b', 1))
  order.occupy(ticket('b', 2))
  t.equal(order.startable(ticket('a', 1)), 0)
  order.vacate(ticket('b', 2))
  t.equal(order.startable(ticket('c', 1)), 1)
})

t.test('none can start in a busy chat', async (t) => {
  const order = makeOrder([])
  order.occupy(ticket('a', 1, 'one'))
  t.equal(order.startable(ticket('a', 2, 'one')), 0)
  t.equal(order.startable(ticket('a', 2, 'two')), 8)
  order.vacate(ticket('a', 1, 'one'))
  t.equal(order.startable(ticket('a', 2, 'one')), 9)
})

t.test('a copy begins as its original is, and changes alone', async (t) => {
  const waiting = [ticket('a', 2, 'one'), ticket('a', 3), ticket('b', 2)]
  const order = makeOrder(waiting, { maxConcurrent: 4, userMaxConcurrent: 2 })
  order.occupy(ticket('a', 1, 'one'))
  order.occupy(ticket('b', 1))
  const copy = order.copy()
  t.equal(copy.waitingCount, 3)
  t.same(beginAll(copy), ['a3', 'b2'], 'with its slots, its users and its busy chats')
  copy.vacate(ticket('a', 1, 'one'))
  t.same(beginAll(copy), ['a2'])
  t.equal(copy.waitingCount, 0)
  t.equal(order.waitingCount, 3)
  t.same(beginAll(order), ['a3', 'b2'])
})
