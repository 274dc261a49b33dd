import { AppError } from '../errors.js'

export interface Ticket {
  readonly id: string
  readonly userId: string
  readonly chatId: string
}

export interface Place {
  /** 1 is next. */
  position: number
  /** Undefined until a reply has ended whose time can be learnt from. */
  estimatedStart?: Date
}

export interface QueueLimits {
  /** Replies that run at once. */
  maxConcurrent: number
  /** Replies of one user that run at once. */
  userMaxConcurrent: number
  /** Replies that wait. */
  maxWaiting: number
}

/** Places are told at most this often: each change moves everybody behind it. */
const placesEveryMs = 200

/**
 * Who runs next: users with waiting tickets stand in a ring and take strict turns, and within a
 * user the oldest ticket goes first whose chat is idle. One reply of a chat runs at a time.
 */
export class FairQueue<T extends Ticket> {
  /** The ring: users in the order of their turns, each with its waiting tickets, oldest first. */
  readonly #waiting = new Map<string, Map<string, T>>()
  readonly #running = new Map<string, { ticket: T; since: number }>()
  readonly #runningByUser = new Map<string, number>()
  readonly #busyChats = new Set<string>()
  readonly #places = new Map<string, number>()
  #waitingCount = 0
  #reserved = 0
  #paused = false
  #meanMs: number | undefined
  #placesTimer: NodeJS.Timeout | undefined

  constructor(
    private readonly limits: QueueLimits,
    /** Called when a ticket's turn has come; `done` must follow. */
    private readonly start: (ticket: T) => void,
    /** Called when a waiting ticket's place has changed. */
    private readonly onPlace: (ticket: T, place: Place) => void,
  ) {}

  get waitingCount(): number {
    return this.#waitingCount
  }

  get runningCount(): number {
    return this.#running.size
  }

  /**
   * Holds a place for a ticket that is yet to be stored.
   * @returns gives the place back; call it once, when the ticket is in the queue or never will be.
   * @throws AppError QUEUE_FULL with the seconds after which a place may be free.
   */
  reserve(): () => void {
    const taken = this.#running.size + this.#waitingCount + this.#reserved
    if (taken >= this.limits.maxConcurrent + this.limits.maxWaiting) {
      const retryAfter = Math.ceil((this.#meanMs ?? 1000) / this.limits.maxConcurrent / 1000)
      throw new AppError('QUEUE_FULL', { retryAfter: Math.min(Math.max(retryAfter, 1), 60) })
    }
    this.#reserved++
    let held = true
    return () => {
      if (held) this.#reserved--
      held = false
    }
  }

  enqueue(ticket: T): void {
    const own = this.#waiting.get(ticket.userId)
    if (own) own.set(ticket.id, ticket)
    else this.#waiting.set(ticket.userId, new Map([[ticket.id, ticket]]))
    this.#waitingCount++
    this.#advance()
  }

  /** Takes a waiting ticket out; false when it was not waiting. */
  leave(ticket: T): boolean {
    const own = this.#waiting.get(ticket.userId)
    if (!own?.delete(ticket.id)) return false
    if (own.size === 0) this.#waiting.delete(ticket.userId)
    this.#waitingCount--
    this.#places.delete(ticket.id)
    this.#tellPlacesSoon()
    return true
  }

  /** A running ticket's work is over. */
  done(ticket: T): void {
    const run = this.#running.get(ticket.id)
    if (!run) return
    this.#running.delete(ticket.id)
    this.#busyChats.delete(ticket.chatId)
    const ofUser = (this.#runningByUser.get(ticket.userId) ?? 1) - 1
    if (ofUser > 0) this.#runningByUser.set(ticket.userId, ofUser)
    else this.#runningByUser.delete(ticket.userId)
    const tookMs = Date.now() - run.since
    this.#meanMs = this.#meanMs === undefined ? tookMs : this.#meanMs * 0.8 + tookMs * 0.2
    this.#advance()
  }

  /** Where a waiting ticket stands; undefined when it is not waiting. */
  place(ticket: T): Place | undefined {
    if (!this.#waiting.get(ticket.userId)?.has(ticket.id)) return undefined
    for (const [waiting, position] of this.#order()) {
      if (waiting === ticket) return this.#placeAt(position)
    }
    return undefined
  }

  /** Starts no ticket any more. */
  pause(): void {
    this.#paused = true
    clearTimeout(this.#placesTimer)
  }

  #advance(): void {
    while (!this.#paused && this.#running.size < this.limits.maxConcurrent) {
      const ticket = this.#next()
      if (!ticket) break
      this.leave(ticket)
      // Who was served goes to the ring's end.
      const rest = this.#waiting.get(ticket.userId)
      if (rest) {
        this.#waiting.delete(ticket.userId)
        this.#waiting.set(ticket.userId, rest)
      }
      this.#running.set(ticket.id, { ticket, since: Date.now() })
      this.#busyChats.add(ticket.chatId)
      this.#runningByUser.set(ticket.userId, (this.#runningByUser.get(ticket.userId) ?? 0) + 1)
      this.start(ticket)
    }
    this.#tellPlacesSoon()
  }

  #next(): T | undefined {
    for (const [userId, tickets] of this.#waiting) {
      if ((this.#runningByUser.get(userId) ?? 0) >= this.limits.userMaxConcurrent) continue
      for (const ticket of tickets.values()) {
        if (!this.#busyChats.has(ticket.chatId)) return ticket
      }
    }
    return undefined
  }

  /** All waiting tickets in the order in which turns would take them, with their positions. */
  *#order(): Generator<[T, number]> {
    let position = 0
    let turns = [...this.#waiting.values()].map((tickets) => tickets.values())
    while (turns.length > 0) {
      const others = []
      for (const tickets of turns) {
        const next = tickets.next()
        if (next.done) continue
        yield [next.value, ++position]
        others.push(tickets)
      }
      turns = others
    }
  }

  #placeAt(position: number): Place {
    if (this.#meanMs === undefined) return { position }
    const waitMs = (this.#meanMs * position) / this.limits.maxConcurrent
    return { position, estimatedStart: new Date(Date.now() + waitMs) }
  }

  #tellPlacesSoon(): void {
    if (this.#placesTimer || this.#waitingCount === 0 || this.#paused) return
    this.#placesTimer = setTimeout(() => {
      this.#placesTimer = undefined
      for (const [ticket, position] of this.#order()) {
        if (this.#places.get(ticket.id) === position) continue
        this.#places.set(ticket.id, position)
        this.onPlace(ticket, this.#placeAt(position))
      }
    }, placesEveryMs).unref()
  }
}
