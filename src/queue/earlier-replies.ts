import { Outage } from '../outage.js'
import type { Store } from '../stores/store.js'
import type { Ticket } from './fair-queue.js'

/** Replies that one look reads; while there are as many, there may be others. */
const perLook = 500
/** By then every lease is over: whatever has not ended is found. */
const endOfTime = new Date(8.64e15)

/**
 * Replies that this process does not hold, and that go before later ones of their chats: those of
 * other servers; where there is one server alone, those that a process before it left, until all
 * are taken over or have ended.
 */
export class EarlierReplies {
  #mayBe = true
  #timer: NodeJS.Timeout | undefined
  #look: Promise<void> | undefined
  readonly #outage: Outage

  constructor(
    private readonly store: Store,
    /** Those that this process holds, or is about to. */
    private readonly isOwn: (messageId: string) => boolean,
    /** Whether there are turns of which the store never said whether it has them. */
    private readonly isUnsure: () => boolean,
    log: ConstructorParameters<typeof Outage>[0],
  ) {
    this.#outage = new Outage(log, {
      failing:
        'could not look for replies that an earlier process left; later ones of their chats wait until the database answers',
      over: 'replies that an earlier process left are looked for again',
    })
  }

  /** Whether there may be any. */
  get mayBe(): boolean {
    return this.#mayBe || this.isUnsure()
  }

  /** Whether a reply of the ticket's chat that goes before it has not ended. */
  async goBefore({ chatId, seq }: Ticket): Promise<boolean> {
    const active = await this.store.listActiveReplies(chatId)
    return active.some((reply) => reply.seq < seq)
  }

  /** Where this server is alone: looks now, and then every `everyMs`, until there are none. */
  async untilTaken(everyMs: number): Promise<void> {
    await this.#lookOnce()
    if (this.#mayBe) this.#timer = setInterval(() => void this.#lookOnce(), everyMs).unref()
  }

  #lookOnce(): Promise<void> {
    this.#look ??= this.#areLeft()
      .then((areLeft) => {
        this.#outage.over()
        this.#mayBe = areLeft
        if (!areLeft) clearInterval(this.#timer)
      })
      .catch((error: unknown) => this.#outage.failed(error))
      .finally(() => {
        this.#look = undefined
      })
    return this.#look
  }

  async #areLeft(): Promise<boolean> {
    const rows = await this.store.findLapsedReplies(endOfTime, perLook)
    return rows.length === perLook || rows.some(({ id }) => !this.isOwn(id))
  }

  close(): void {
    clearInterval(this.#timer)
  }
}
