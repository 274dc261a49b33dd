import type { Log } from '../logging.js'
import { Outage } from '../outage.js'
import type { HeldReplies } from '../reply/held-replies.js'
import type { LiveReply } from '../reply/live-reply.js'
import { Backoff } from '../retry.js'
import type { Store } from '../stores/store.js'
import { within } from '../within.js'

/** From one checkpoint to the next, in milliseconds, which a crash can cost; longer while they fail. */
const everyMs = { first: 1000, longest: 4000 }

/** How long closing waits for a pass under way, in milliseconds. */
const passEndMs = 1000

interface Parts {
  store: Pick<Store, 'checkpoint' | 'updateReply'>
  held: HeldReplies
  owner: string
  log: Log
}

/** Stores the texts of running replies once a second: a takeover goes on from there. */
export class Checkpoints {
  #pass: Promise<void> = Promise.resolve()
  readonly #pauses = new Backoff(everyMs)
  #timer: NodeJS.Timeout | undefined
  #isClosed = false
  readonly #outage: Outage

  constructor(private readonly parts: Parts) {
    this.#outage = new Outage(parts.log, {
      failing:
        'could not store the texts of running replies so far; a crash would lose them until the database answers',
      over: 'the texts of running replies are stored again',
    })
  }

  start(): void {
    if (this.#isClosed) return
    this.#timer = setTimeout(() => {
      this.#pass = this.#storeAll().then(() => this.start())
    }, this.#pauses.next())
  }

  /** Starts no more passes, and waits a moment for the one under way. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await within(this.#pass, passEndMs)
  }

  async #storeAll(): Promise<void> {
    const changed = this.parts.held.all().filter((reply) => reply.hasUnstored)
    if (changed.length === 0) return this.#pauses.reset()
    try {
      for (const reply of changed) if (reply.isInPieces) await this.#storeWhole(reply)
      await this.#store(changed.filter((reply) => reply.hasUnstored))
      this.#pauses.reset()
      this.#outage.over()
    } catch (error) {
      this.#outage.failed(error)
    }
  }

  /** Joins what earlier checkpoints have appended. */
  async #storeWhole(reply: LiveReply): Promise<void> {
    const { store, owner } = this.parts
    const { id, epoch } = reply
    const whole = reply.whole()
    const stored = await store.updateReply(
      id,
      { status: ['streaming'], epoch, owner },
      {
        content: whole.content,
        thinking: whole.thinking || null,
        tokens: { ...reply.tokens, kept: whole.tokens },
      },
    )
    reply.markWhole(whole)
    if (!stored) reply.lose()
  }

  async #store(replies: readonly LiveReply[]): Promise<void> {
    const { store, owner } = this.parts
    const pieces = replies.map((reply) => ({ reply, piece: reply.unstored() }))
    const lost = await store.checkpoint(
      pieces.map(({ reply: { id, epoch }, piece }) => ({ id, epoch, owner, ...piece })),
    )
    for (const { reply, piece } of pieces) {
      reply.markStored(piece)
      if (lost.includes(reply.id)) reply.lose()
    }
  }
}
