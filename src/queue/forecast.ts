import type { FairOrder, QueuePosition, Request, Ticket } from './fair-order.js'

interface Known<T extends Ticket> {
  order: FairOrder<T>
  running: Iterable<{ ticket: T; since: number }>
  /** Slots that are held for tickets which are yet to be stored. */
  reserved: Iterable<Request>
  /** The user of each reply that runs at another server. */
  elsewhere: readonly string[]
  /** How long a reply takes; undefined until it is known. */
  meanMs: number | undefined
  now: number
}

/**
 * The waiting tickets in the order in which they will start, if every reply takes `meanMs`: the
 * turns to come are tried out on a copy of the order.
 */
export function* forecast<T extends Ticket>(known: Known<T>): Generator<[T, QueuePosition]> {
  const { running, reserved, now } = known
  // Before any time is known, the replies that began first are taken to end first.
  const meanMs = known.meanMs ?? 1
  const order = known.order.copy()
  const elsewhere = known.elsewhere.map((userId) => ({ userId, chatId: '' }))
  for (const request of elsewhere) order.occupy(request)
  const ends: { request: Request; at: number }[] = [
    ...Array.from(running, ({ ticket, since }) => ({
      request: ticket,
      at: Math.max(now, since + meanMs),
    })),
    ...Array.from(reserved, (request) => ({ request, at: now + meanMs })),
    // When these began is not known: their ends are spread evenly.
    ...elsewhere.map((request, n) => ({
      request,
      at: now + (meanMs * (n + 1)) / (elsewhere.length + 1),
    })),
  ].sort((a, b) => a.at - b.at)
  let at = now
  let position = 0
  for (let ended = 0; ; ended += 1) {
    for (let next = order.next(); next; next = order.next()) {
      order.begin(next)
      position += 1
      const estimate = known.meanMs === undefined ? {} : { estimatedStart: new Date(at) }
      yield [next, { position, ...estimate }]
      ends.push({ request: next, at: at + meanMs })
    }
    const end = ends[ended]
    if (!end) return
    at = end.at
    order.vacate(end.request)
  }
}
