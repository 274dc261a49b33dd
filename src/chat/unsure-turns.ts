import type { Store, StoredTurn } from '../stores/store.js'
import { replyIdOf } from './accept.js'

const lookEveryMs = 1000
/** For how long, in milliseconds, a turn may yet turn out to be stored. */
const unsureMs = 60_000
const maxUnsure = 1000

/**
 * Turns of which the store never said whether it has them. Nobody else would run one that it has,
 * since it bears this process's name.
 */
export class UnsureTurns {
  readonly #until = new Map<string, { userId: string; until: number }>()
  readonly #replies = new Set<string>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly store: Store,
    /** Called with a turn that is stored after all. */
    private readonly onStored: (turn: Pick<StoredTurn, 'message' | 'reply'>) => void,
  ) {}

  /** @param messageId the id that the user's message has if it is stored. */
  add(userId: string, messageId: string): void {
    if (this.#until.size >= maxUnsure) return
    this.#until.set(messageId, { userId, until: Date.now() + unsureMs })
    this.#replies.add(replyIdOf(messageId))
    this.#timer ??= setInterval(() => void this.#look(), lookEveryMs).unref()
  }

  /** Whether there are any. */
  get areThere(): boolean {
    return this.#until.size > 0
  }

  /** Whether it is a reply of such a turn, which is taken up here when it is found. */
  hasReply(messageId: string): boolean {
    return this.#replies.has(messageId)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#until.clear()
    this.#replies.clear()
  }

  async #look(): Promise<void> {
    for (const [messageId, { userId, until }] of this.#until) {
      if (Date.now() > until) this.#forget(messageId)
      // A store that is still away is asked again.
      const turn = await this.store.findTurn(userId, messageId).catch(() => undefined)
      if (turn && this.#forget(messageId)) this.onStored(turn)
    }
    if (this.#until.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #forget(messageId: string): boolean {
    this.#replies.delete(replyIdOf(messageId))
    return this.#until.delete(messageId)
  }
}
