import type { Store } from '../stores/store.js'
import type { LiveReply } from './live-reply.js'

/** What a crash can cost, in milliseconds of text; a takeover goes on from there. */
const checkpointEveryMs = 1000

interface Log {
  warn(details: object, message: string): void
}

/**
 * Keeps what this process holds: stores changed texts once a second, and renews the leases. When
 * the leases have lapsed (the process was stopped, or the store away) it holds nothing until the
 * store has said which replies are still its own.
 */
export class Keeper {
  #leasedUntil = 0
  #timers: NodeJS.Timeout[] = []
  #pass: Promise<void> = Promise.resolve()
  #busy = false

  constructor(
    private readonly store: Store,
    private readonly owner: string,
    private readonly leaseMs: number,
    private readonly replies: ReadonlyMap<string, LiveReply>,
    /** Called with a reply that has another owner now, or is gone. */
    private readonly onLost: (reply: LiveReply) => void,
    private readonly log: Log,
  ) {}

  start(): void {
    this.#leasedUntil = Date.now() + this.leaseMs
    this.#timers = [
      setInterval(() => this.#run(() => this.#checkpoint()), checkpointEveryMs),
      setInterval(() => this.#run(() => this.#renew()), this.leaseMs / 3),
    ]
  }

  /** Whether the leases still hold; when not, sees to it that the store is asked. */
  holds(): boolean {
    if (Date.now() < this.#leasedUntil) return true
    this.#run(() => this.#renew())
    return false
  }

  /** Stores every changed text. */
  async #checkpoint(): Promise<void> {
    const changed = [...this.replies.values()].filter((reply) => reply.hasUnstored)
    if (changed.length === 0) return
    const lost = await this.#store(changed)
    for (const reply of lost) this.onLost(reply)
  }

  async #renew(): Promise<void> {
    const lapsed = Date.now() >= this.#leasedUntil
    const until = Date.now() + this.leaseMs
    await this.store.renewLeases(this.owner, new Date(until))
    if (lapsed) {
      const begun = [...this.replies.values()].filter((reply) => reply.row.status === 'streaming')
      for (const reply of await this.#store(begun)) this.onLost(reply)
      await this.#renewWaiting(new Date(until))
    }
    this.#leasedUntil = until
  }

  /** After a lapse: those that wait have no text that would tell whose they are now. */
  async #renewWaiting(leaseUntil: Date): Promise<void> {
    for (const reply of this.replies.values()) {
      if (reply.row.status !== 'queued') continue
      const held = await this.store.updateReply(
        reply.id,
        { status: ['queued', 'streaming'], epoch: reply.epoch, owner: this.owner },
        { leaseUntil },
      )
      if (!held && !reply.isOver && !reply.isEnding) this.onLost(reply)
    }
  }

  /** @returns the replies that are not this process's any more. */
  async #store(replies: readonly LiveReply[]): Promise<LiveReply[]> {
    const pieces = replies.map((reply) => ({ reply, piece: reply.unstored() }))
    const lost = await this.store.checkpoint(
      pieces.map(({ reply: { id, epoch }, piece }) => ({ id, epoch, owner: this.owner, ...piece })),
    )
    for (const { reply, piece } of pieces) reply.markStored(piece)
    // One that has ended in the meantime was not lost.
    return replies.filter((reply) => lost.includes(reply.id) && !reply.isOver && !reply.isEnding)
  }

  /** One pass at a time; a fault is tried again by the next. */
  #run(pass: () => Promise<void>): void {
    if (this.#busy) return
    this.#busy = true
    this.#pass = pass()
      .catch((error: unknown) => this.log.warn({ err: error }, 'replies could not be checkpointed'))
      .finally(() => {
        this.#busy = false
      })
  }

  /** Ends the timers, and waits for the pass under way. */
  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#pass
  }
}
