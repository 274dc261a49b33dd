import type { QueueLimits, Ticket } from '../../src/queue/fair-order.js'
import {
  type EarlierTickets,
  FairQueue,
  type Reservation,
  type SharedSlots,
} from '../../src/queue/fair-queue.js'

interface Parts {
  earlier?: EarlierTickets<Ticket>
  shared?: SharedSlots<Ticket>
  now?: () => number
}

/** A queue, and the ids of the tickets whose turn came. */
export function makeQueue(
  limits: Partial<QueueLimits> = {},
  { earlier = { mayBe: false, goBefore: async () => false }, shared, now = Date.now }: Parts = {},
) {
  const started: string[] = []
  const queue = new FairQueue<Ticket>({
    limits: {
      ...{ maxConcurrent: 1, userMaxConcurrent: 1, maxWaiting: 1000, userMaxWaiting: 1000 },
      ...limits,
    },
    ...{ earlier, shared, now },
  })
  /** Resolves once the ticket waits, or runs. */
  const enqueue = async (ticket: Ticket, reservation?: Reservation) => {
    void queue.turn(ticket, reservation).then((hasSlot) => hasSlot && started.push(ticket.id))
    await settled()
  }
  const done = async (ticket: Ticket) => {
    queue.done(ticket)
    await settled()
  }
  return { queue, started, enqueue, done }
}

/** Those whose turn has come have heard so. */
export const settled = async () => {
  for (let n = 0; n < 10; n++) await Promise.resolve()
}
