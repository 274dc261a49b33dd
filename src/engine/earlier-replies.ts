import type { Log } from '../logging.js'
import { Outage } from '../outage.js'
import type { EarlierTickets } from '../queue/fair-queue.js'
import type { HeldReplies } from '../reply/held-replies.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { Store } from '../stores/store.js'

/** Replies that one look reads; when it finds as many, there may be others. */
const perLook = 500
/** All leases are over by then, so every reply that has not ended is found. */
const endOfTime = new Date(8.64e15)

interface Parts {
  store: Pick<Store, 'listActiveReplies' | 'findLapsedReplies'>
  held: HeldReplies
  log: Log
}

/**
 * Replies that another process holds or left behind, which run before later ones of their chats.
 * A server that is alone knows when the last of them has been taken over or has ended.
 */
export class EarlierReplies implements EarlierTickets<LiveReply> {
  #mayBeLeft = true
  #timer: NodeJS.Timeout | undefined
  #look: Promise<void> | undefined
  readonly #outage: Outage

  constructor(private readonly parts: Parts) {
    this.#outage = new Outage(parts.log, {
      failing:
        'could not look for replies that an earlier process left; later ones of their chats wait until the database answers',
      over: 'replies that an earlier process left are looked for again',
    })
  }

  get mayBe(): boolean {
    return this.#mayBeLeft || this.parts.held.unconfirmed.size > 0
  }

  async goBefore({ chatId, seq }: LiveReply): Promise<boolean> {
    const active = await this.parts.store.listActiveReplies(chatId)
    return active.some((reply) => reply.seq < seq)
  }

  /** For a server that is alone: looks now, and then every `everyMs`, until none is left. */
  async untilTaken(everyMs: number): Promise<void> {
    await this.#lookOnce()
    if (this.#mayBeLeft) this.#timer = setInterval(() => void this.#lookOnce(), everyMs).unref()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #lookOnce(): Promise<void> {
    this.#look ??= this.#areLeft()
      .then((areLeft) => {
        this.#outage.over()
        this.#mayBeLeft = areLeft
        if (!areLeft) clearInterval(this.#timer)
      })
      .catch((error: unknown) => this.#outage.failed(error))
      .finally(() => {
        this.#look = undefined
      })
    return this.#look
  }

  async #areLeft(): Promise<boolean> {
    const { store, held } = this.parts
    const rows = await store.findLapsedReplies(endOfTime, perLook)
    return rows.length === perLook || rows.some(({ id }) => !held.isOwn(id))
  }
}
