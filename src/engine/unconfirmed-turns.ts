import type { HeldReplies } from '../reply/held-replies.js'
import type { Store } from '../stores/store.js'
import type { Runner } from './runner.js'

const lookEveryMs = 1000
/** For how long a turn may still turn out to be stored, in milliseconds. */
const unconfirmedMs = 60_000
const maxUnconfirmed = 1000

interface Turn {
  userId: string
  messageId: string
  until: number
}

interface Parts {
  store: Pick<Store, 'findTurn'>
  held: HeldReplies
  runner: Pick<Runner, 'takeUp'>
}

/**
 * Turns that may be stored: the store's answer was lost. Those that are found are taken up; until
 * then no later reply of their chats starts.
 */
export class UnconfirmedTurns {
  /** By the id of the reply. */
  readonly #turns = new Map<string, Turn>()
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(private readonly parts: Parts) {}

  add(userId: string, messageId: string, replyId: string): void {
    // A turn beyond the limit is found by takeover, when its lease ends.
    if (this.#turns.size >= maxUnconfirmed) return
    this.#turns.set(replyId, { userId, messageId, until: Date.now() + unconfirmedMs })
    this.parts.held.unconfirmed.add(replyId)
    this.#timer ??= this.#lookLater()
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  #lookLater(): NodeJS.Timeout {
    return setTimeout(() => void this.#look(), lookEveryMs).unref()
  }

  async #look(): Promise<void> {
    const { store, held, runner } = this.parts
    for (const [replyId, { userId, messageId, until }] of this.#turns) {
      const isLastLook = Date.now() > until
      try {
        const turn = await store.findTurn(userId, messageId)
        if (this.#isClosed) return
        if (!turn && !isLastLook) continue
        this.#turns.delete(replyId)
        held.unconfirmed.delete(replyId)
        if (turn) runner.takeUp(turn)
      } catch {
        // The store is still away: all are looked for again.
        break
      }
    }
    this.#timer = this.#turns.size > 0 && !this.#isClosed ? this.#lookLater() : undefined
  }
}
