import type { MessageChunk } from '../../schemas/messages.js'
import type { Hub } from './hub.js'
import type { LiveReply } from './live-reply.js'

/**
 * The tick of the whole process, in milliseconds: how long text may wait to share a frame, and its
 * system call, with what follows. It is so many times what a flush takes: a server with little to
 * do tells each token almost at once, and a busy one has twelve frames a second of each reply.
 */
const tick = { shortestMs: 10, longestMs: 80, timesFlush: 100 }
/** A flush that takes longer, in milliseconds, lets others in between: a first token must not wait. */
const sliceMs = 2
/** Replies between two looks at the clock. */
const perLook = 16
/** The weight of the newest flush in what a flush is taken to cost: one slow one says little. */
const newest = 0.25

/**
 * Reads and announces what running replies have got: a reply's first token at once, then everything
 * of all replies once a tick.
 */
export class Flusher {
  readonly #dirty = new Set<LiveReply>()
  /** The next tick; kept while a flush is under way. */
  #timer: NodeJS.Timeout | undefined
  #rest: NodeJS.Immediate | undefined
  /** What a flush takes, in milliseconds, as it was lately. */
  #flushMs = 0

  constructor(
    private readonly hub: Hub,
    /** False while this process cannot be sure that it still holds its replies. */
    private readonly holds: () => boolean,
  ) {}

  /** Text came, or what has yet to be read. */
  add(reply: LiveReply, isFirst = false): void {
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
    reply.flush(this.#tell)
  }

  readonly #tell = (frame: MessageChunk) => this.hub.toChat(frame.chatId, 'message-chunk', frame)

  /** Forgets what a reply that was lost had pending. */
  forget(reply: LiveReply): void {
    this.#dirty.delete(reply)
  }

  get #tickMs(): number {
    return Math.min(Math.max(this.#flushMs * tick.timesFlush, tick.shortestMs), tick.longestMs)
  }

  readonly #tick = () => this.#flush([...this.#dirty], 0)

  /** Reads and announces `replies`, slice after slice; @param tookMs what those before took. */
  #flush(replies: readonly LiveReply[], tookMs: number): void {
    const began = performance.now()
    let ms = 0
    let done = this.holds() ? 0 : replies.length
    for (; done < replies.length && ms < sliceMs; ms = performance.now() - began) {
      for (const reply of replies.slice(done, done + perLook)) {
        if (!this.#dirty.has(reply)) continue
        reply.readModel()
        this.announce(reply)
      }
      done += perLook
    }
    if (done < replies.length) {
      this.#rest = setImmediate(() => this.#flush(replies.slice(done), tookMs + ms))
      return
    }
    this.#flushMs += newest * (tookMs + ms - this.#flushMs)
    this.#timer = this.#dirty.size > 0 ? setTimeout(this.#tick, this.#tickMs) : undefined
  }

  close(): void {
    clearTimeout(this.#timer)
    clearImmediate(this.#rest)
    this.#dirty.clear()
  }
}
