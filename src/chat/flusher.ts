import type { Hub } from './hub.js'
import type { LiveReply } from './live-reply.js'

/**
 * The tick of the whole process, in milliseconds: how long text may wait to share a frame, and its
 * system call, with what follows. It is so many times what announcing takes, so that a server with
 * little to do tells each token at once, and a busy one spends no more than a fiftieth on telling.
 */
const tick = { shortestMs: 10, longestMs: 100, timesFlush: 50 }
/** The weight of the newest flush in what a flush is taken to cost: one slow one says little. */
const newest = 0.25

/**
 * Announces what running replies have got: a reply's first token at once, then everything of all
 * replies once a tick.
 */
export class Flusher {
  readonly #dirty = new Set<LiveReply>()
  #timer: NodeJS.Timeout | undefined
  /** What a flush takes, in milliseconds. */
  #flushMs = 0

  constructor(
    private readonly hub: Hub,
    /** False while this process cannot be sure that it still holds its replies. */
    private readonly holds: () => boolean,
  ) {}

  /** Text came. */
  add(reply: LiveReply, isFirst: boolean): void {
    if (isFirst && this.holds()) {
      this.announce(reply)
      return
    }
    this.#dirty.add(reply)
    this.#timer ??= setTimeout(this.#tick, this.#tickMs)
  }

  /** Announces a reply's pending text now. */
  announce(reply: LiveReply): void {
    this.#dirty.delete(reply)
    for (const frame of reply.flush()) this.hub.toChat(reply.chatId, 'message-chunk', frame)
  }

  /** Forgets what a reply that was lost had pending. */
  forget(reply: LiveReply): void {
    this.#dirty.delete(reply)
  }

  get #tickMs(): number {
    return Math.min(Math.max(this.#flushMs * tick.timesFlush, tick.shortestMs), tick.longestMs)
  }

  readonly #tick = () => {
    this.#timer = undefined
    if (this.holds()) {
      const began = performance.now()
      for (const reply of this.#dirty) this.announce(reply)
      this.#flushMs += newest * (performance.now() - began - this.#flushMs)
    } else if (this.#dirty.size > 0) {
      this.#timer = setTimeout(this.#tick, this.#tickMs)
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#dirty.clear()
  }
}
