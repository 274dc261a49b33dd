import type { MessageRow } from '../stores/store.js'
import { hasEnded } from './reply-state.js'

/** For how long, in milliseconds, a record that was read before its end may still be in use. */
const keptMs = 10_000

/** Replies that ended here a moment ago: what was read of them before is out of date. */
export class RecentlyEnded {
  readonly #rows = new Map<string, MessageRow>()

  /** A reply was ended here, or its run here is over. */
  note(row: MessageRow): void {
    if (!hasEnded(row) || this.#rows.has(row.id)) return
    this.#rows.set(row.id, row)
    setTimeout(() => this.#rows.delete(row.id), keptMs).unref()
  }

  /** The record as it ended here, if it did so lately. */
  find(messageId: string): MessageRow | undefined {
    return this.#rows.get(messageId)
  }
}
