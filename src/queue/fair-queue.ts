import { AppError, type ErrorCode } from '../errors.js'

export interface Ticket {
  readonly id: string
  readonly userId: string
  readonly chatId: string
  /** Its place in its chat. */
  readonly seq: number
}

/** What is known of a ticket before it is stored. */
type Request = Pick<Ticket, 'userId' | 'chatId'>

export interface QueuePosition {
  /** 1 is next. */
  position: number
  /** Undefined until a reply has ended whose time can be learnt from. */
  estimatedStart?: Date
}

/** What a ticket that is yet to be stored will need, held for it. */
export interface Reservation {
  /** Whether it is a place to run: the ticket starts as soon as it is in the queue. */
  readonly toRun: boolean
  /** Whether it was still held; it is the caller's then. */
  take(): boolean
  /** Gives back what was not taken. */
  giveBack(): void
}

export interface QueueLimits {
  /** Replies that run at once. */
  maxConcurrent: number
  /** Replies of one user that run at once. */
  userMaxConcurrent: number
  /** Replies that wait. */
  maxWaiting: number
  /** Replies of one user that wait. */
  userMaxWaiting: number
}

/** The places that several servers share. */
export interface SharedSlots<T> {
  /** Whether there is one for a ticket, which then has it. */
  take(ticket: T): Promise<boolean>
  release(ticket: T): Promise<void>
  /** Tells how many replies of a user wait here. @returns how many wait at other servers. */
  tellWaiting(userId: string, waiting: number): Promise<number>
  /** Keeps the places of `held`, and tells how many replies of each user wait here. */
  renew(held: readonly T[], waiting: ReadonlyMap<string, number>): Promise<Elsewhere>
  renewMs: number
}

/** What the queues of other servers have. */
export interface Elsewhere {
  waiting: number
  /** Of each running reply, its user. */
  running: readonly string[]
}

/** Earlier replies of a chat that this process does not hold; they run first. */
export interface EarlierTickets<T> {
  /** Whether there may be any. */
  readonly mayBe: boolean
  /** Whether there is one in the ticket's chat. */
  goBefore(ticket: T): Promise<boolean>
}

/**
 * Which tickets wait, what is running, and the rule that says which is next: users with waiting
 * tickets stand in a ring and take strict turns, and within a user the oldest ticket goes first
 * whose chat is idle.
 */
class ReplyResponses<T extends Ticket> {
  /** The ring: users in the order of their turns, each with its waiting tickets, oldest first. */
  readonly waiting = new Map<string, Map<string, T>>()
  readonly #runningByUser = new Map<string, number>()
  readonly #busyChats = new Set<string>()
  running = 0

  constructor(private readonly limits: QueueLimits) {}

  /** The same state, to try out what will come of it. */
  copy(): ReplyResponses<T> {
    const copy = new ReplyResponses<T>(this.limits)
    for (const [userId, tickets] of this.waiting) copy.waiting.set(userId, new Map(tickets))
    for (const [userId, count] of this.#runningByUser) copy.#runningByUser.set(userId, count)
    for (const chatId of this.#busyChats) copy.#busyChats.add(chatId)
    copy.running = this.running
    return copy
  }

  has(ticket: T): boolean {
    return this.waiting.get(ticket.userId)?.has(ticket.id) ?? false
  }

  add(ticket: T): void {
    const own = this.waiting.get(ticket.userId) ?? new Map<string, T>()
    this.waiting.set(ticket.userId, own.set(ticket.id, ticket))
    // One that is taken over may come after those that follow it in its chat.
    for (const other of [...own.values()]) {
      if (other.chatId !== ticket.chatId || other.seq <= ticket.seq) continue
      own.delete(other.id)
      own.set(other.id, other)
    }
  }

  remove(ticket: T): boolean {
    const own = this.waiting.get(ticket.userId)
    if (!own?.delete(ticket.id)) return false
    if (own.size === 0) this.waiting.delete(ticket.userId)
    return true
  }

  /** The ticket whose turn it is, but for those of `refused` users and chats. */
  next(refused?: ReadonlySet<string>): T | undefined {
    if (this.running >= this.limits.maxConcurrent) return undefined
    for (const [userId, tickets] of this.waiting) {
      if (refused?.has(userId)) continue
      if (this.runningOf(userId) >= this.limits.userMaxConcurrent) continue
      for (const ticket of tickets.values()) {
        if (refused?.has(ticket.chatId)) continue
        if (!this.#busyChats.has(ticket.chatId)) return ticket
      }
    }
    return undefined
  }

  /** A waiting ticket's turn has come. */
  begin(ticket: T): void {
    this.remove(ticket)
    // Who was served goes to the ring's end.
    const rest = this.waiting.get(ticket.userId)
    if (rest) {
      this.waiting.delete(ticket.userId)
      this.waiting.set(ticket.userId, rest)
    }
    this.occupy(ticket)
  }

  occupy({ userId, chatId }: Request): void {
    this.running += 1
    this.#busyChats.add(chatId)
    this.#runningByUser.set(userId, this.runningOf(userId) + 1)
  }

  vacate({ userId, chatId }: Request): void {
    this.running -= 1
    this.#busyChats.delete(chatId)
    const ofUser = this.runningOf(userId) - 1
    if (ofUser > 0) this.#runningByUser.set(userId, ofUser)
    else this.#runningByUser.delete(userId)
  }

  runningOf(userId: string): number {
    return this.#runningByUser.get(userId) ?? 0
  }

  /** How many tickets like this one could start now. */
  startable({ userId, chatId }: Request): number {
    if (this.#busyChats.has(chatId)) return 0
    const { maxConcurrent, userMaxConcurrent } = this.limits
    return Math.min(maxConcurrent - this.running, userMaxConcurrent - this.runningOf(userId))
  }
}

/** Slots are told at most this often: each change moves everybody behind it. */
const placesEveryMs = 200
/** How often is asked again, should no news come of another's place, or of an earlier reply. */
const askAgainMs = 300

/**
 * Who runs next, by the rule of `ReplyResponses`. One reply of a chat runs at a time, in their order. Where
 * several servers share the places, each takes its turns so, and asks for a place before it starts;
 * and wherever an earlier reply may be another process's, the store is asked.
 */
export class FairQueue<T extends Ticket> {
  readonly #replyResponses: ReplyResponses<T>
  readonly #running = new Map<string, { ticket: T; since: number }>()
  /** The positions that were told last. */
  readonly #told = new Map<string, number>()
  #waitingCount = 0
  /** What is held for tickets that are yet to be stored: places to run, and to wait by user. */
  readonly #reserved = {
    toRun: new Set<Request>(),
    toWait: 0,
    toWaitByUser: new Map<string, number>(),
  }
  #paused = false
  #meanMs: number | undefined
  #placesTimer: NodeJS.Timeout | undefined
  #elsewhere: Elsewhere = { waiting: 0, running: [] }
  /** Users of whom other servers know how many replies wait here. */
  readonly #knownElsewhere = new Set<string>()
  #asking = false
  #askAgain = false
  #askTimer: NodeJS.Timeout | undefined
  #renewTimer: NodeJS.Timeout | undefined

  constructor(
    private readonly limits: QueueLimits,
    /** Called when a ticket's turn has come; `done` must follow. */
    private readonly start: (ticket: T) => void,
    /** Called when a waiting ticket's place has changed. */
    private readonly onPlace: (ticket: T, place: QueuePosition) => void,
    private readonly earlier: EarlierTickets<T>,
    private readonly shared?: SharedSlots<T>,
    /** The clock, in milliseconds since 1970. */
    private readonly now: () => number = Date.now,
  ) {
    this.#replyResponses = new ReplyResponses(limits)
    if (shared) this.#renewTimer = setInterval(() => void this.#renew(shared), shared.renewMs)
    this.#renewTimer?.unref()
  }

  get waitingCount(): number {
    return this.#waitingCount
  }

  get runningCount(): number {
    return this.#running.size
  }

  /**
   * Holds a place for a ticket that is yet to be stored: to run where it can start at once, which
   * is not known where others have to be asked, else to wait.
   * @throws AppError USER_QUEUE_FULL or QUEUE_FULL, with the seconds after which a place may be free.
   */
  async reserve(ticket: Request): Promise<Reservation> {
    const { userId } = ticket
    const { maxConcurrent, userMaxConcurrent, maxWaiting, userMaxWaiting } = this.limits
    const startable = this.#paused ? 0 : this.#replyResponses.startable(ticket)
    const toRun = startable > 0 && !this.#mustAsk && !this.#isBehind(ticket)
    if (toRun) return this.#reserveToRun(ticket)
    // Those that are reserved may be in the way: they start before it.
    const ofUser = this.#waitingOf(userId) - startable
    if (ofUser >= userMaxWaiting) throw this.#full('USER_QUEUE_FULL', userMaxConcurrent)
    const ofAll = this.#waitingCount + this.#reserved.toWait + this.#elsewhere.waiting - startable
    if (ofAll >= maxWaiting) throw this.#full('QUEUE_FULL', maxConcurrent)
    const reservation = this.#reserveToWait(ticket)
    if (!this.shared || ofUser < 0) return reservation
    this.#knownElsewhere.add(userId)
    const elsewhere = await this.shared.tellWaiting(userId, this.#waitingOf(userId))
    if (ofUser + elsewhere < userMaxWaiting) return reservation
    reservation.giveBack()
    throw this.#full('USER_QUEUE_FULL', userMaxConcurrent)
  }

  #reserveToRun(ticket: Request): Reservation {
    const { toRun } = this.#reserved
    toRun.add(ticket)
    this.#replyResponses.occupy(ticket)
    const take = () => toRun.delete(ticket)
    const giveBack = () => {
      if (!take()) return
      this.#replyResponses.vacate(ticket)
      this.#advance()
    }
    return { toRun: true, take, giveBack }
  }

  #reserveToWait({ userId }: Request): Reservation {
    const count = (by: number) => {
      const { toWaitByUser } = this.#reserved
      this.#reserved.toWait += by
      const ofUser = (toWaitByUser.get(userId) ?? 0) + by
      if (ofUser > 0) toWaitByUser.set(userId, ofUser)
      else toWaitByUser.delete(userId)
    }
    count(1)
    let held = true
    const take = () => {
      const wasHeld = held
      held = false
      if (wasHeld) count(-1)
      return wasHeld
    }
    const giveBack = () => {
      if (take()) this.#tellWaiting(userId)
    }
    return { toRun: false, take, giveBack }
  }

  /** @param places how many run at once of what is full. */
  #full(code: ErrorCode, slots: number): AppError {
    const retryAfter = Math.ceil((this.#meanMs ?? 1000) / slots / 1000)
    return new AppError(code, { retryAfter: Math.min(Math.max(retryAfter, 1), 60) })
  }

  /** How many replies of a user wait here, or are about to. */
  #waitingOf(userId: string): number {
    const reserved = this.#reserved.toWaitByUser.get(userId) ?? 0
    return (this.#replyResponses.waiting.get(userId)?.size ?? 0) + reserved
  }

  /** Corrects what other servers know of a user's waiting replies. */
  #tellWaiting(userId: string): void {
    if (!this.shared || !this.#knownElsewhere.has(userId)) return
    const waiting = this.#waitingOf(userId)
    if (waiting === 0) this.#knownElsewhere.delete(userId)
    void this.shared.tellWaiting(userId, waiting)
  }

  /** Whether it takes more than what is known here to say that a ticket may start. */
  get #mustAsk(): boolean {
    return this.shared !== undefined || this.earlier.mayBe
  }

  /** Whether one of its chat waits: to be asked about again, though nothing may be in its way. */
  #isBehind({ userId, chatId }: Request): boolean {
    const own = this.#replyResponses.waiting.get(userId)?.values() ?? []
    return [...own].some((one) => one.chatId === chatId)
  }

  /** @param reservation what was held for the ticket. */
  enqueue(ticket: T, reservation?: Reservation): void {
    if (reservation?.take() && reservation.toRun) this.#run(ticket)
    else this.#wait(ticket)
  }

  #wait(ticket: T): void {
    this.#replyResponses.add(ticket)
    this.#waitingCount++
    this.#advance()
    const place = this.place(ticket)
    if (!place) return
    this.#told.set(ticket.id, place.position)
    this.onPlace(ticket, place)
  }

  /** Takes a waiting ticket out; false when it was not waiting. */
  leave(ticket: T): boolean {
    if (!this.#replyResponses.remove(ticket)) return false
    this.#left(ticket)
    return true
  }

  /** A ticket waits no more. */
  #left(ticket: T): void {
    this.#waitingCount--
    this.#told.delete(ticket.id)
    this.#tellWaiting(ticket.userId)
    this.#tellPlacesSoon()
  }

  /** A running ticket's work is over. */
  done(ticket: T): void {
    const run = this.#running.get(ticket.id)
    if (!run) return
    this.#running.delete(ticket.id)
    this.#replyResponses.vacate(ticket)
    const tookMs = this.now() - run.since
    this.#meanMs = this.#meanMs === undefined ? tookMs : this.#meanMs * 0.8 + tookMs * 0.2
    void this.shared?.release(ticket)
    this.#advance()
  }

  /** A place may have become free at another server. */
  retry(): void {
    this.#advance()
  }

  /** Where a waiting ticket stands; undefined when it is not waiting. */
  place(ticket: T): QueuePosition | undefined {
    if (!this.#replyResponses.has(ticket)) return undefined
    for (const [waiting, place] of this.#forecast()) {
      if (waiting === ticket) return place
    }
    return undefined
  }

  /** Starts no ticket any more; the next process owns the waiting ones. */
  pause(): void {
    this.#paused = true
    void this.shared?.renew([], new Map([...this.#knownElsewhere].map((userId) => [userId, 0])))
    clearTimeout(this.#placesTimer)
    clearTimeout(this.#askTimer)
    clearInterval(this.#renewTimer)
  }

  #advance(): void {
    if (this.#mustAsk) void this.#ask()
    else for (let next = this.#next(); next; next = this.#next()) this.#begin(next)
    this.#tellPlacesSoon()
  }

  #next(refused?: ReadonlySet<string>): T | undefined {
    return this.#paused ? undefined : this.#replyResponses.next(refused)
  }

  /** Asks whether it may start for each user whose turn it is here, until all have been refused. */
  async #ask(): Promise<void> {
    this.#askAgain = true
    if (this.#asking) return
    this.#asking = true
    const refused = new Set<string>()
    while (this.#askAgain) {
      this.#askAgain = false
      refused.clear()
      for (let next = this.#next(); next; next = this.#next(refused)) {
        // A store that is away is asked again, as are the others.
        const answer = await this.#mayStart(next).catch(() => 'full' as const)
        if (answer === 'full') refused.add(next.userId)
        else if (answer === 'chat-busy') refused.add(next.chatId)
        // Others may have been begun meanwhile, without asking.
        else if (
          !this.#paused &&
          this.#replyResponses.has(next) &&
          this.#replyResponses.startable(next) > 0
        ) {
          this.#begin(next)
        } else await this.shared?.release(next)
      }
    }
    this.#asking = false
    if (refused.size === 0 || this.#paused) return
    clearTimeout(this.#askTimer)
    this.#askTimer = setTimeout(() => this.#advance(), askAgainMs).unref()
  }

  async #mayStart(ticket: T): Promise<'granted' | 'full' | 'chat-busy'> {
    if (this.earlier.mayBe && (await this.earlier.goBefore(ticket))) return 'chat-busy'
    return !this.shared || (await this.shared.take(ticket)) ? 'granted' : 'full'
  }

  async #renew(shared: SharedSlots<T>): Promise<void> {
    const held = Array.from(this.#running.values(), ({ ticket }) => ticket)
    for (const userId of this.#replyResponses.waiting.keys()) this.#knownElsewhere.add(userId)
    const waiting = new Map<string, number>()
    for (const userId of this.#knownElsewhere) waiting.set(userId, this.#waitingOf(userId))
    this.#elsewhere = await shared.renew(held, waiting)
  }

  #begin(ticket: T): void {
    this.#replyResponses.begin(ticket)
    this.#left(ticket)
    this.#run(ticket)
  }

  #run(ticket: T): void {
    this.#running.set(ticket.id, { ticket, since: this.now() })
    this.start(ticket)
  }

  /**
   * The waiting tickets in the order in which they will start, should each reply take as long as
   * replies took so far: the turns to come, tried out on a copy.
   */
  *#forecast(): Generator<[T, QueuePosition]> {
    const now = this.now()
    // Before any time is known, the replies that began first end first.
    const meanMs = this.#meanMs ?? 1
    const replyResponses = this.#replyResponses.copy()
    const elsewhere = this.#elsewhere.running.map((userId) => ({ userId, chatId: '' }))
    for (const taken of elsewhere) replyResponses.occupy(taken)
    const ends = [
      ...Array.from(this.#running.values(), ({ ticket: taken, since }) => ({
        taken,
        at: Math.max(now, since + meanMs),
      })),
      ...Array.from(this.#reserved.toRun, (taken) => ({ taken, at: now + meanMs })),
      // When these began is not known.
      ...elsewhere.map((taken, n) => ({
        taken,
        at: now + (meanMs * (n + 1)) / (elsewhere.length + 1),
      })),
    ].sort((a, b) => a.at - b.at)
    let at = now
    let position = 0
    for (let ended = 0; ; ended += 1) {
      for (let next = replyResponses.next(); next; next = replyResponses.next()) {
        replyResponses.begin(next)
        position += 1
        yield [
          next,
          this.#meanMs === undefined ? { position } : { position, estimatedStart: new Date(at) },
        ]
        ends.push({ taken: next, at: at + meanMs })
      }
      const end = ends[ended]
      if (!end) return
      at = end.at
      replyResponses.vacate(end.taken)
    }
  }

  #tellPlacesSoon(): void {
    if (this.#placesTimer || this.#waitingCount === 0 || this.#paused) return
    this.#placesTimer = setTimeout(() => {
      this.#placesTimer = undefined
      for (const [ticket, place] of this.#forecast()) {
        if (this.#told.get(ticket.id) === place.position) continue
        this.#told.set(ticket.id, place.position)
        this.onPlace(ticket, place)
      }
    }, placesEveryMs).unref()
  }
}
