import { Outage } from '../outage.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { Store } from '../stores/store.js'
import { within } from '../within.js'

/** How much text a crash can cost, in milliseconds; while the store fails, the pauses grow. */
const everyMs = { least: 1000, most: 4000 }

/** How long closing waits for a pass under way, in milliseconds. */
const passEndMs = 1000

interface Parts {
  store: Pick<Store, 'checkpoint' | 'updateReply'>
  /** The replies that this process holds, by id. */
  held: ReadonlyMap<string, LiveReply>
  owner: string
  /** Called with a reply that another process has taken over or ended, or that was deleted. */
  onLost: (reply: LiveReply) => void
  log: ConstructorParameters<typeof Outage>[0]
}

/** Stores the texts of running replies once a second: a takeover goes on from there. */
export class Checkpoints {
  #pass: Promise<void> = Promise.resolve()
  #pauseMs = everyMs.least
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
    }, this.#pauseMs)
  }

  /** Waits a moment for the pass under way; none follows. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await within(this.#pass, passEndMs)
  }

  async #storeAll(): Promise<void> {
    const changed = [...this.parts.held.values()].filter((reply) => reply.hasUnstored)
    if (changed.length === 0) return
    try {
      for (const reply of changed) if (reply.isInPieces) await this.#storeWhole(reply)
      await this.#store(changed.filter((reply) => reply.hasUnstored))
      this.#pauseMs = everyMs.least
      this.#outage.over()
    } catch (error) {
      this.#pauseMs = Math.min(this.#pauseMs * 2, everyMs.most)
      this.#outage.failed(error)
    }
  }

  /** Joins what earlier checkpoints have appended. */
  async #storeWhole(reply: LiveReply): Promise<void> {
    const { store, owner, onLost } = this.parts
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
    if (!stored) onLost(reply)
  }

  async #store(replies: readonly LiveReply[]): Promise<void> {
    const { store, owner, onLost } = this.parts
    const pieces = replies.map((reply) => ({ reply, piece: reply.unstored() }))
    const lost = await store.checkpoint(
      pieces.map(({ reply: { id, epoch }, piece }) => ({ id, epoch, owner, ...piece })),
    )
    for (const { reply, piece } of pieces) {
      reply.markStored(piece)
      if (lost.includes(reply.id)) onLost(reply)
    }
  }
}
