import type { Log } from '../logging.js'
import { Outage } from '../outage.js'
import type { HeldReplies } from '../reply/held-replies.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { Store } from '../stores/store.js'

/** How many renewals may be under way: a slow one must not delay the next. */
const maxPending = 4

interface Parts {
  store: Pick<Store, 'renewLeases'>
  held: HeldReplies
  owner: string
  leaseMs: number
  log: Log
}

/** Renews the leases of the replies that this process holds, so that no other one takes them over. */
export class Leases {
  #validUntil = 0
  #tickedAt = 0
  #renewedAt = 0
  #pending = 0
  #isStoreAway = false
  #timer: NodeJS.Timeout | undefined
  readonly #outage: Outage

  constructor(private readonly parts: Parts) {
    this.#outage = new Outage(parts.log, {
      failing:
        'leases of running replies could not be renewed; the replies go on, and renewing is tried until the database answers',
      over: 'leases of running replies are renewed again',
    })
  }

  start(): void {
    const { leaseMs } = this.parts
    this.#tickedAt = Date.now()
    this.#validUntil = this.#tickedAt + leaseMs
    this.#timer = setInterval(() => this.#tick(), leaseMs / 8)
  }

  /**
   * Whether this process may tell of its replies. After it was stopped for longer than a lease it may
   * not, until the store has said which were taken over. While the store is away it may: clients
   * prefer the newer epoch of another process.
   */
  get valid(): boolean {
    const now = Date.now()
    if (now < this.#validUntil) return true
    return this.#isStoreAway && now - this.#tickedAt < this.parts.leaseMs
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Renews three times in a lease, and at every tick while the store does not answer. */
  #tick(): void {
    const { held, leaseMs } = this.parts
    const now = Date.now()
    if (now - this.#tickedAt > leaseMs) this.#isStoreAway = false
    this.#tickedAt = now
    const replies = held.all().filter((reply) => !reply.isOver && !reply.isGivenUp)
    if (replies.length === 0) this.#validUntil = now + leaseMs
    if (replies.length === 0 || this.#pending === maxPending) return
    if (now - this.#renewedAt < leaseMs / 3 && !this.#isStoreAway) return
    if (this.#pending > 0) this.#isStoreAway = true
    this.#renewedAt = now
    void this.#renew(replies, now)
  }

  /** Extends the leases, and loses the replies that another process took over. */
  async #renew(replies: readonly LiveReply[], now: number): Promise<void> {
    const { store, owner, leaseMs } = this.parts
    this.#pending++
    try {
      const ids = replies.map(({ id }) => id)
      const lost = new Set(await store.renewLeases(owner, ids, new Date(now + leaseMs)))
      this.#validUntil = Math.max(this.#validUntil, now + leaseMs)
      this.#isStoreAway = false
      this.#outage.over()
      for (const reply of replies) if (lost.has(reply.id)) reply.lose()
    } catch (error) {
      this.#isStoreAway = this.#tickedAt - now < leaseMs
      this.#outage.failed(error)
    } finally {
      this.#pending--
    }
  }
}
