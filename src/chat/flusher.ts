import type { Hub } from './hub.js'
import type { LiveReply } from './live-reply.js'

/**
 * The tick of the whole process: what tokens may wait to share a frame and a system call. A reader
 * sees 25 frames a second as a flow, and half as many frames as tokens save a quarter of the CPU.
 */
const tickMs = 40

/**
 * Announces what running replies have got: a reply's first token at once, then everything of all
 * replies once a tick.
 */
export class Flusher {
  readonly #dirty = new Set<LiveReply>()
  #timer: NodeJS.Timeout | undefined

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
    this.#timer ??= setTimeout(this.#tick, tickMs)
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

  readonly #tick = () => {
    this.#timer = undefined
    if (this.holds()) {
      for (const reply of this.#dirty) this.announce(reply)
    } else if (this.#dirty.size > 0) {
      this.#timer = setTimeout(this.#tick, tickMs)
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#dirty.clear()
  }
}
