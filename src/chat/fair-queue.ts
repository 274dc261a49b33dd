import { AppError } from '../errors.js'

export interface Ticket {
  readonly id: string
  readonly userId: string
  readonly chatId: string
  /** Its place in its chat. */
  readonly seq: number
}

/** What is known of a ticket before it is stored. */
type Request = Pick<Ticket, 'userId' | 'chatId'>

export interface Place {
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
}

/** The places that several servers share. */
export interface SharedPlaces<T> {
  /** Whether there is one for a ticket, which then has it. */
  take(ticket: T): Promise<boolean>
  release(ticket: T): Promise<void>
  /** Keeps the places of `held`, tells how many wait here, and answers how many wait elsewhere. */
  renew(held: readonly T[], waiting: number): Promise<number>
  renewMs: number
}

/** What this queue does not have, and what nevertheless goes first. */
export interface EarlierTickets<T> {
  /** Whether there may be any. */
  readonly mayBe: boolean
  /** Whether there is one in the ticket's chat. */
  goBefore(ticket: T): Promise<boolean>
}

/** Places are told at most this often: each change moves everybody behind it. */
const placesEveryMs = 200
/** How often is asked again, should no news come of another's place, or of an earlier reply. */
const askAgainMs = 300

/**
 * Who runs next: users with waiting tickets stand in a ring and take strict turns, and within a
 * user the oldest ticket goes first whose chat is idle. One reply of a chat runs at a time, in their
 * order. Where several servers share the places, each takes its turns so, and asks for a place
 * before it starts; and wherever an earlier reply may be another process's, the store is asked.
 */
export class FairQueue<T extends Ticket> {
  /** The ring: users in the order of their turns, each with its waiting tickets, oldest first. */
  readonly #waiting = new Map<string, Map<string, T>>()
  readonly #running = new Map<string, { ticket: T; since: number }>()
  readonly #runningByUser = new Map<string, number>()
  readonly #busyChats = new Set<string>()
  readonly #places = new Map<string, number>()
  #waitingCount = 0
  /** Places held for tickets that are yet to be stored: to wait, and to run. */
  readonly #reserved = { toWait: 0, toRun: 0 }
  #paused = false
  #meanMs: number | undefined
  #placesTimer: NodeJS.Timeout | undefined
  #waitingElsewhere = 0
  #asking = false
  #askAgain = false
  #askTimer: NodeJS.Timeout | undefined
  #renewTimer: NodeJS.Timeout | undefined

  constructor(
    private readonly limits: QueueLimits,
    /** Called when a ticket's turn has come; `done` must follow. */
    private readonly start: (ticket: T) => void,
    /** Called when a waiting ticket's place has changed. */
    private readonly onPlace: (ticket: T, place: Place) => void,
    private readonly earlier: EarlierTickets<T>,
    private readonly shared?: SharedPlaces<T>,
  ) {
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
   * @throws AppError QUEUE_FULL with the seconds after which a place may be free.
   */
  reserve(ticket: Request): Reservation {
    const startable = this.#startable(ticket)
    const toRun = startable > 0 && !this.#mustAsk && !this.#isBehind(ticket)
    const kind = toRun ? 'toRun' : 'toWait'
    // Those reserved may be in the way: they start before it.
    const before = this.#waitingCount + this.#waitingElsewhere + this.#reserved.toWait
    if (!toRun && before - startable >= this.limits.maxWaiting) {
      const retryAfter = Math.ceil((this.#meanMs ?? 1000) / this.limits.maxConcurrent / 1000)
      throw new AppError('QUEUE_FULL', { retryAfter: Math.min(Math.max(retryAfter, 1), 60) })
    }
    this.#reserved[kind]++
    if (toRun) this.#occupy(ticket)
    let held = true
    const take = () => {
      if (held) this.#reserved[kind]--
      const wasHeld = held
      held = false
      return wasHeld
    }
    const giveBack = () => {
      if (!take() || !toRun) return
      this.#vacate(ticket)
      this.#advance()
    }
    return { toRun, take, giveBack }
  }

  /** Whether it takes more than what is known here to say that a ticket may start. */
  get #mustAsk(): boolean {
    return this.shared !== undefined || this.earlier.mayBe
  }

  /** How many tickets like this one could start now. */
  #startable({ userId, chatId }: Request): number {
    if (this.#paused || this.#busyChats.has(chatId)) return 0
    const { maxConcurrent, userMaxConcurrent } = this.limits
    const ofUser = userMaxConcurrent - (this.#runningByUser.get(userId) ?? 0)
    return Math.min(maxConcurrent - this.#running.size - this.#reserved.toRun, ofUser)
  }

  /** Whether one of its chat waits: to be asked about again, though nothing may be in its way. */
  #isBehind({ userId, chatId }: Request): boolean {
    return [...(this.#waiting.get(userId)?.values() ?? [])].some((one) => one.chatId === chatId)
  }

  /** @param reservation what was held for the ticket. */
  enqueue(ticket: T, reservation?: Reservation): void {
    if (reservation?.take() && reservation.toRun) this.#run(ticket)
    else this.#wait(ticket)
  }

  #wait(ticket: T): void {
    const own = this.#waiting.get(ticket.userId) ?? new Map<string, T>()
    this.#waiting.set(ticket.userId, own.set(ticket.id, ticket))
    // One that is taken over may come after those that follow it in its chat.
    for (const other of [...own.values()]) {
      if (other.chatId !== ticket.chatId || other.seq <= ticket.seq) continue
      own.delete(other.id)
      own.set(other.id, other)
    }
    this.#waitingCount++
    this.#advance()
    const place = this.place(ticket)
    if (!place) return
    this.#places.set(ticket.id, place.position)
    this.onPlace(ticket, place)
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
    this.#vacate(ticket)
    const tookMs = Date.now() - run.since
    this.#meanMs = this.#meanMs === undefined ? tookMs : this.#meanMs * 0.8 + tookMs * 0.2
    void this.shared?.release(ticket)
    this.#advance()
  }

  /** A place may have become free at another server. */
  retry(): void {
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

  /** Starts no ticket any more; those that wait are somebody else's to count. */
  pause(): void {
    this.#paused = true
    void this.shared?.renew([], 0)
    clearTimeout(this.#placesTimer)
    clearTimeout(this.#askTimer)
    clearInterval(this.#renewTimer)
  }

  #advance(): void {
    if (this.#mustAsk) void this.#ask()
    else for (let next = this.#next(); next; next = this.#next()) this.#begin(next)
    this.#tellPlacesSoon()
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
        else if (this.#waiting.get(next.userId)?.has(next.id) && this.#startable(next) > 0) {
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

  async #renew(shared: SharedPlaces<T>): Promise<void> {
    const held = Array.from(this.#running.values(), ({ ticket }) => ticket)
    this.#waitingElsewhere = await shared.renew(held, this.#waitingCount)
  }

  #begin(ticket: T): void {
    this.leave(ticket)
    // Who was served goes to the ring's end.
    const rest = this.#waiting.get(ticket.userId)
    if (rest) {
      this.#waiting.delete(ticket.userId)
      this.#waiting.set(ticket.userId, rest)
    }
    this.#occupy(ticket)
    this.#run(ticket)
  }

  #occupy({ userId, chatId }: Request): void {
    this.#busyChats.add(chatId)
    this.#runningByUser.set(userId, (this.#runningByUser.get(userId) ?? 0) + 1)
  }

  #vacate({ userId, chatId }: Request): void {
    this.#busyChats.delete(chatId)
    const ofUser = (this.#runningByUser.get(userId) ?? 1) - 1
    if (ofUser > 0) this.#runningByUser.set(userId, ofUser)
    else this.#runningByUser.delete(userId)
  }

  #run(ticket: T): void {
    this.#running.set(ticket.id, { ticket, since: Date.now() })
    this.start(ticket)
  }

  /** The ticket whose turn it is here, but for those of `refused` users and chats. */
  #next(refused?: ReadonlySet<string>): T | undefined {
    const running = this.#running.size + this.#reserved.toRun
    if (this.#paused || running >= this.limits.maxConcurrent) return undefined
    for (const [userId, tickets] of this.#waiting) {
      if (refused?.has(userId)) continue
      if ((this.#runningByUser.get(userId) ?? 0) >= this.limits.userMaxConcurrent) continue
      for (const ticket of tickets.values()) {
        if (refused?.has(ticket.chatId)) continue
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
    const users = new Set([...this.#waiting.keys(), ...this.#runningByUser.keys()]).size
    const { maxConcurrent, userMaxConcurrent } = this.limits
    const atOnce = Math.min(maxConcurrent, userMaxConcurrent * users)
    const waitMs = (this.#meanMs * position) / atOnce
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
