import { AppError, type ErrorCode } from '../errors.js'
import {
  FairOrder,
  type QueueLimits,
  type QueuePosition,
  type Request,
  type Ticket,
} from './fair-order.js'
import { forecast } from './forecast.js'

/** Room for a ticket that is yet to be stored: a slot, or a position in the queue. */
export interface Reservation extends Request {
  readonly hasSlot: boolean
}

/** The slots at Ollama that several servers share. */
export interface SharedSlots<T> {
  /** Takes a slot for a ticket. @returns false when none is free. */
  take(ticket: T): Promise<boolean>
  release(ticket: T): Promise<void>
  /** Tells how many replies of a user wait here. @returns how many wait at other servers. */
  tellWaiting(userId: string, waiting: number): Promise<number>
  /** Keeps the slots of `held`, and tells how many replies of each user wait here. */
  renew(held: readonly T[], waiting: ReadonlyMap<string, number>): Promise<Elsewhere>
  renewMs: number
}

/** What the queues of other servers have. */
interface Elsewhere {
  waiting: number
  /** The user of each running reply. */
  running: readonly string[]
}

/** Earlier replies of a chat that another process holds; they run first. */
export interface EarlierTickets<T> {
  /** Whether there may be any. */
  readonly mayBe: boolean
  /** Whether there is one in the ticket's chat. */
  goBefore(ticket: T): Promise<boolean>
}

interface Parts<T> {
  limits: QueueLimits
  earlier: EarlierTickets<T>
  shared?: SharedSlots<T> | undefined
  /** The clock, in milliseconds since 1970. */
  now?: () => number
}

/** Positions are told at most this often, because each change moves everybody behind it. */
const positionsEveryMs = 200
/** How often a refused ticket asks again, in case no news comes of a free slot. */
const askAgainMs = 300

/**
 * Gives slots to tickets in the fair order; of a chat one reply runs at a time, oldest first. Where
 * servers share the slots each asks for one before a ticket starts, and where another process may
 * hold an earlier reply of the chat, the store is asked.
 */
export class FairQueue<T extends Ticket> {
  readonly #order: FairOrder<T>
  readonly #running = new Map<string, { ticket: T; since: number }>()
  /** Starts a waiting ticket, by its id. */
  readonly #starts = new Map<string, () => void>()
  readonly #reserved = new Set<Reservation>()
  readonly #now: () => number
  #isPaused = false
  #meanMs: number | undefined
  #positionsTimer: NodeJS.Timeout | undefined
  #elsewhere: Elsewhere = { waiting: 0, running: [] }
  /** Users of whom other servers know how many replies wait here. */
  readonly #knownElsewhere = new Set<string>()
  #isAsking = false
  #mustAskAgain = false
  #askTimer: NodeJS.Timeout | undefined
  #renewTimer: NodeJS.Timeout | undefined

  constructor(private readonly parts: Parts<T>) {
    const { limits, shared, now = Date.now } = parts
    this.#order = new FairOrder(limits)
    this.#now = now
    if (shared) this.#renewTimer = setInterval(() => void this.#renew(shared), shared.renewMs)
    this.#renewTimer?.unref()
  }

  get waitingCount(): number {
    return this.#order.waitingCount
  }

  get runningCount(): number {
    return this.#running.size
  }

  /**
   * Keeps room for a ticket that is yet to be stored: a slot where it can start at once and nobody
   * else has to be asked, else a position.
   * @throws AppError USER_QUEUE_FULL or QUEUE_FULL, with the seconds after which to try again.
   */
  async reserve(request: Request): Promise<Reservation> {
    const { userId } = request
    const { limits, shared } = this.parts
    const { maxConcurrent, userMaxConcurrent, maxWaiting, userMaxWaiting } = limits
    const startable = this.#isPaused ? 0 : this.#order.startable(request)
    if (startable > 0 && !this.#mustAsk && !this.#order.hasWaiting(request)) {
      this.#order.occupy(request)
      return this.#reserve(request, true)
    }
    // Reserved tickets start before this one, so the free slots count as room for them.
    const ofUser = this.#waitingOf(userId) - startable
    if (ofUser >= userMaxWaiting) throw this.#full('USER_QUEUE_FULL', userMaxConcurrent)
    const ofAll =
      this.waitingCount + this.#reservedPositions() + this.#elsewhere.waiting - startable
    if (ofAll >= maxWaiting) throw this.#full('QUEUE_FULL', maxConcurrent)
    const reservation = this.#reserve(request, false)
    if (!shared || ofUser < 0) return reservation
    this.#knownElsewhere.add(userId)
    const elsewhere = await shared.tellWaiting(userId, this.#waitingOf(userId))
    if (ofUser + elsewhere < userMaxWaiting) return reservation
    this.giveBack(reservation)
    throw this.#full('USER_QUEUE_FULL', userMaxConcurrent)
  }

  /** Gives a reservation back, unless a ticket has used it. */
  giveBack(reservation: Reservation): void {
    if (!this.#reserved.delete(reservation)) return
    if (reservation.hasSlot) {
      this.#order.vacate(reservation)
      this.#advance()
    } else this.#tellWaiting(reservation.userId)
  }

  /**
   * Waits for the ticket's turn.
   * @returns true when it has a slot, which `done` gives back; false when its signal was aborted
   *   first, and it has left the queue.
   */
  turn(ticket: T, reservation?: Reservation): Promise<boolean> {
    const { signal } = ticket
    if (signal.aborted) return Promise.resolve(false)
    return new Promise((resolve) => {
      const leave = () => {
        this.#order.remove(ticket)
        this.#left(ticket)
        resolve(false)
      }
      this.#starts.set(ticket.id, () => {
        signal.removeEventListener('abort', leave)
        resolve(true)
      })
      signal.addEventListener('abort', leave)
      if (reservation && this.#reserved.delete(reservation) && reservation.hasSlot)
        this.#run(ticket)
      else this.#wait(ticket)
    })
  }

  /** Gives a ticket's slot back. */
  done(ticket: T): void {
    const run = this.#running.get(ticket.id)
    if (!run) return
    this.#running.delete(ticket.id)
    this.#order.vacate(ticket)
    const tookMs = this.#now() - run.since
    this.#meanMs = this.#meanMs === undefined ? tookMs : this.#meanMs * 0.8 + tookMs * 0.2
    void this.parts.shared?.release(ticket)
    this.#advance()
  }

  /** Another server gave a slot back. */
  retry(): void {
    this.#advance()
  }

  /** Where a ticket waits now; undefined when it does not wait. */
  positionOf(ticket: T): QueuePosition | undefined {
    if (!this.#order.has(ticket)) return undefined
    for (const [waiting, position] of this.#forecast()) if (waiting === ticket) return position
    return undefined
  }

  /** Starts no more tickets; the next process owns the waiting ones. */
  pause(): void {
    this.#isPaused = true
    const none = new Map([...this.#knownElsewhere].map((userId) => [userId, 0]))
    void this.parts.shared?.renew([], none)
    clearTimeout(this.#positionsTimer)
    clearTimeout(this.#askTimer)
    clearInterval(this.#renewTimer)
  }

  #reserve({ userId, chatId }: Request, hasSlot: boolean): Reservation {
    const reservation = { userId, chatId, hasSlot }
    this.#reserved.add(reservation)
    return reservation
  }

  #reservedPositions(userId?: string): number {
    let count = 0
    for (const reserved of this.#reserved) {
      if (!reserved.hasSlot && (userId ?? reserved.userId) === reserved.userId) count += 1
    }
    return count
  }

  /** @param slots how many run at once of what is full. */
  #full(code: ErrorCode, slots: number): AppError {
    const retryAfter = Math.ceil((this.#meanMs ?? 1000) / slots / 1000)
    return new AppError(code, { retryAfter: Math.min(Math.max(retryAfter, 1), 60) })
  }

  /** How many replies of a user wait here, or are about to. */
  #waitingOf(userId: string): number {
    return this.#order.waitingOf(userId) + this.#reservedPositions(userId)
  }

  /** Whether a ticket may start only once other servers or the store were asked. */
  get #mustAsk(): boolean {
    return this.parts.shared !== undefined || this.parts.earlier.mayBe
  }

  #wait(ticket: T): void {
    this.#order.add(ticket)
    this.#advance()
    const position = this.positionOf(ticket)
    if (position) ticket.waitAt(position)
  }

  /** A ticket waits no more. */
  #left(ticket: T): void {
    this.#starts.delete(ticket.id)
    this.#tellWaiting(ticket.userId)
    this.#tellPositionsSoon()
  }

  #begin(ticket: T): void {
    this.#order.begin(ticket)
    this.#run(ticket)
    this.#left(ticket)
  }

  #run(ticket: T): void {
    this.#running.set(ticket.id, { ticket, since: this.#now() })
    this.#starts.get(ticket.id)?.()
    this.#starts.delete(ticket.id)
  }

  #next(refused?: ReadonlySet<string>): T | undefined {
    return this.#isPaused ? undefined : this.#order.next(refused)
  }

  #advance(): void {
    if (this.#mustAsk) void this.#ask()
    else for (let next = this.#next(); next; next = this.#next()) this.#begin(next)
    this.#tellPositionsSoon()
  }

  /** Asks whether the next ticket may start, for one user after the other until all are refused. */
  async #ask(): Promise<void> {
    this.#mustAskAgain = true
    if (this.#isAsking) return
    this.#isAsking = true
    const refused = new Set<string>()
    while (this.#mustAskAgain) {
      this.#mustAskAgain = false
      refused.clear()
      for (let next = this.#next(); next; next = this.#next(refused)) {
        // A failure, such as of the store, counts as a refusal: it is asked again later.
        const answer = await this.#mayStart(next).catch(() => 'full' as const)
        if (answer === 'full') refused.add(next.userId)
        else if (answer === 'chat-busy') refused.add(next.chatId)
        // Meanwhile it may have left, or others may have taken the slots.
        else if (!this.#isPaused && this.#order.has(next) && this.#order.startable(next) > 0) {
          this.#begin(next)
        } else await this.parts.shared?.release(next)
      }
    }
    this.#isAsking = false
    if (refused.size === 0 || this.#isPaused) return
    clearTimeout(this.#askTimer)
    this.#askTimer = setTimeout(() => this.#advance(), askAgainMs).unref()
  }

  async #mayStart(ticket: T): Promise<'granted' | 'full' | 'chat-busy'> {
    const { earlier, shared } = this.parts
    if (earlier.mayBe && (await earlier.goBefore(ticket))) return 'chat-busy'
    return !shared || (await shared.take(ticket)) ? 'granted' : 'full'
  }

  /** Corrects what other servers know of a user's waiting replies. */
  #tellWaiting(userId: string): void {
    if (!this.parts.shared || !this.#knownElsewhere.has(userId)) return
    const waiting = this.#waitingOf(userId)
    if (waiting === 0) this.#knownElsewhere.delete(userId)
    void this.parts.shared.tellWaiting(userId, waiting)
  }

  async #renew(shared: SharedSlots<T>): Promise<void> {
    const held = Array.from(this.#running.values(), ({ ticket }) => ticket)
    for (const userId of this.#order.users()) this.#knownElsewhere.add(userId)
    const waiting = new Map<string, number>()
    for (const userId of this.#knownElsewhere) waiting.set(userId, this.#waitingOf(userId))
    this.#elsewhere = await shared.renew(held, waiting)
  }

  #forecast(): Generator<[T, QueuePosition]> {
    return forecast({
      order: this.#order,
      running: this.#running.values(),
      reserved: [...this.#reserved].filter(({ hasSlot }) => hasSlot),
      elsewhere: this.#elsewhere.running,
      meanMs: this.#meanMs,
      now: this.#now(),
    })
  }

  #tellPositionsSoon(): void {
    if (this.#positionsTimer || this.waitingCount === 0 || this.#isPaused) return
    this.#positionsTimer = setTimeout(() => {
      this.#positionsTimer = undefined
      for (const [ticket, position] of this.#forecast()) {
        if (ticket.position?.position !== position.position) ticket.waitAt(position)
      }
    }, positionsEveryMs).unref()
  }
}
