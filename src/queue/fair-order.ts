export interface QueuePosition {
  /** 1 is next. */
  position: number
  /** Undefined until one reply has ended and shown how long replies take. */
  estimatedStart?: Date
}

/** A reply that waits for a slot, or has one. */
export interface Ticket {
  readonly id: string
  readonly userId: string
  readonly chatId: string
  /** Its number in its chat. */
  readonly seq: number
  /** Takes it out of the queue. */
  readonly signal: AbortSignal
  /** Where it waits, as it was last told. */
  readonly position: QueuePosition | undefined
  /** Tells it where it waits. */
  waitAt(position: QueuePosition): void
}

/** What is known of a ticket before it is stored. */
export type Request = Pick<Ticket, 'userId' | 'chatId'>

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

/**
 * Which tickets wait, how many slots are taken, and who is next: users with waiting tickets take
 * turns, and of a user the oldest ticket goes first whose chat has no running reply.
 */
export class FairOrder<T extends Ticket> {
  /** Users in the order of their turns, each with its waiting tickets, oldest first. */
  readonly #waiting = new Map<string, Map<string, T>>()
  readonly #runningByUser = new Map<string, number>()
  readonly #busyChats = new Set<string>()
  waitingCount = 0
  #running = 0

  constructor(private readonly limits: QueueLimits) {}

  /** The same state, to try out what will come of it. */
  copy(): FairOrder<T> {
    const copy = new FairOrder<T>(this.limits)
    for (const [userId, tickets] of this.#waiting) copy.#waiting.set(userId, new Map(tickets))
    for (const [userId, count] of this.#runningByUser) copy.#runningByUser.set(userId, count)
    for (const chatId of this.#busyChats) copy.#busyChats.add(chatId)
    copy.waitingCount = this.waitingCount
    copy.#running = this.#running
    return copy
  }

  has(ticket: T): boolean {
    return this.#waiting.get(ticket.userId)?.has(ticket.id) ?? false
  }

  /** The users with waiting tickets. */
  users(): Iterable<string> {
    return this.#waiting.keys()
  }

  waitingOf(userId: string): number {
    return this.#waiting.get(userId)?.size ?? 0
  }

  /** Whether a ticket of the chat waits. */
  hasWaiting({ userId, chatId }: Request): boolean {
    const own = this.#waiting.get(userId)?.values() ?? []
    return [...own].some((ticket) => ticket.chatId === chatId)
  }

  add(ticket: T): void {
    const own = this.#waiting.get(ticket.userId) ?? new Map<string, T>()
    this.#waiting.set(ticket.userId, own.set(ticket.id, ticket))
    this.waitingCount += 1
    // A reply that was taken over may come after later ones of its chat: they move behind it.
    for (const other of [...own.values()]) {
      if (other.chatId !== ticket.chatId || other.seq <= ticket.seq) continue
      own.delete(other.id)
      own.set(other.id, other)
    }
  }

  /** @returns whether the ticket waited. */
  remove(ticket: T): boolean {
    const own = this.#waiting.get(ticket.userId)
    if (!own?.delete(ticket.id)) return false
    if (own.size === 0) this.#waiting.delete(ticket.userId)
    this.waitingCount -= 1
    return true
  }

  /** The ticket whose turn it is, but for those of `refused` users and chats. */
  next(refused?: ReadonlySet<string>): T | undefined {
    if (this.#running >= this.limits.maxConcurrent) return undefined
    for (const [userId, tickets] of this.#waiting) {
      if (refused?.has(userId)) continue
      if (this.#runningOf(userId) >= this.limits.userMaxConcurrent) continue
      for (const ticket of tickets.values()) {
        if (refused?.has(ticket.chatId)) continue
        if (!this.#busyChats.has(ticket.chatId)) return ticket
      }
    }
    return undefined
  }

  /** Gives a waiting ticket a slot; its user then has the last turn. */
  begin(ticket: T): void {
    this.remove(ticket)
    const rest = this.#waiting.get(ticket.userId)
    if (rest) {
      this.#waiting.delete(ticket.userId)
      this.#waiting.set(ticket.userId, rest)
    }
    this.occupy(ticket)
  }

  occupy({ userId, chatId }: Request): void {
    this.#running += 1
    this.#busyChats.add(chatId)
    this.#runningByUser.set(userId, this.#runningOf(userId) + 1)
  }

  vacate({ userId, chatId }: Request): void {
    this.#running -= 1
    this.#busyChats.delete(chatId)
    const ofUser = this.#runningOf(userId) - 1
    if (ofUser > 0) this.#runningByUser.set(userId, ofUser)
    else this.#runningByUser.delete(userId)
  }

  /** How many tickets like this one could start now. */
  startable({ userId, chatId }: Request): number {
    if (this.#busyChats.has(chatId)) return 0
    const { maxConcurrent, userMaxConcurrent } = this.limits
    return Math.min(maxConcurrent - this.#running, userMaxConcurrent - this.#runningOf(userId))
  }

  #runningOf(userId: string): number {
    return this.#runningByUser.get(userId) ?? 0
  }
}
