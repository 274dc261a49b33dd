import type { Store, StoredTurn } from '../stores/store.js'

const lookEveryMs = 1000
/** For how long a turn may yet turn out to be stored, in milliseconds. */
const unconfirmedMs = 60_000
const maxUnconfirmed = 1000

interface Turn {
  userId: string
  messageId: string
  until: number
}

/**
 * ReplyResponses of which the store never said whether it has them. Each that it has is taken up when it is
 * found; until then no later reply of its chat starts.
 */
export class UnconfirmedTurns {
  /** By the id that the reply has if it is stored. */
  readonly #replyResponses = new Map<string, Turn>()
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(
    private readonly store: Pick<Store, 'findTurn'>,
    /** Called with a turn that is stored after all. */
    private readonly onStored: (turn: Pick<StoredTurn, 'message' | 'reply'>) => void,
  ) {}

  add(userId: string, messageId: string, replyId: string): void {
    // Takeover finds what is not looked for here, when its lease ends.
    if (this.#replyResponses.size >= maxUnconfirmed) return
    this.#replyResponses.set(replyId, { userId, messageId, until: Date.now() + unconfirmedMs })
    this.#timer ??= this.#lookLater()
  }

  get areThere(): boolean {
    return this.#replyResponses.size > 0
  }

  hasReply(replyId: string): boolean {
    return this.#replyResponses.has(replyId)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#replyResponses.clear()
  }

  #lookLater(): NodeJS.Timeout {
    return setTimeout(() => void this.#look(), lookEveryMs).unref()
  }

  async #look(): Promise<void> {
    for (const [replyId, { userId, messageId, until }] of this.#replyResponses) {
      const isLastLook = Date.now() > until
      try {
        const turn = await this.store.findTurn(userId, messageId)
        if ((turn || isLastLook) && this.#replyResponses.delete(replyId) && turn)
          this.onStored(turn)
      } catch {
        // The store is still away: all are asked for again.
        break
      }
    }
    this.#timer = this.#replyResponses.size > 0 && !this.#isClosed ? this.#lookLater() : undefined
  }
}
