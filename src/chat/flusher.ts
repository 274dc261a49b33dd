import type { MessageChunk } from '../../schemas/messages.js'
import type { Hub } from './hub.js'
import type { LiveReply } from './live-reply.js'

/**
 * The tick of the whole process, in milliseconds: how long text may wait to share a read, a frame
 * and their system calls with what follows. It grows with the root of what a flush takes, which is
 * where the sum of waiting and of work is least (Young 1974, of checkpoints): a server with little
 * to do tells each token almost at once, and a busy one has eleven frames a second of each reply.
 */
const tick = { shortestMs: 10, longestMs: 90, atOneMs: 60 }
/** Replies that are announced in one turn of the loop: a first token must not wait for all. */
const perTurn = 16
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
    const ms = Math.sqrt(this.#flushMs) * tick.atOneMs
    return Math.min(Math.max(ms, tick.shortestMs), tick.longestMs)
  }

  readonly #tick = () => this.#turn([...this.#dirty], 0, performance.now(), 0)

  /**
   * One turn of the loop: what was fetched for the replies before `at` is read and announced, and
   * the next ones' is fetched, which comes before the next turn.
   * @param tookMs what the turns before took.
   */
  #turn(replies: readonly LiveReply[], at: number, tickAt: number, tookMs: number): void {
    const began = performance.now()
    for (const reply of replies.slice(at, at + perTurn)) reply.arriving?.fetch()
    if (at > 0 && this.holds()) {
      for (const reply of replies.slice(at - perTurn, at)) this.#read(reply)
    }
    const now = performance.now()
    const ms = tookMs + now - began
    if (at < replies.length) {
      this.#rest = setImmediate(() => this.#turn(replies, at + perTurn, tickAt, ms))
    } else this.#endTick(ms, now - tickAt)
  }

  #read(reply: LiveReply): void {
    if (!this.#dirty.has(reply)) return
    reply.arriving?.read()
    this.announce(reply)
    if (reply.arriving?.isHeld) this.#dirty.add(reply)
  }

  #endTick(flushMs: number, sinceMs: number): void {
    this.#flushMs += newest * (flushMs - this.#flushMs)
    // From tick to tick; but a process that has too much to do has half its time for other things.
    const ms = Math.max(this.#tickMs - sinceMs, sinceMs)
    this.#timer = this.#dirty.size > 0 ? setTimeout(this.#tick, ms) : undefined
  }

  close(): void {
    clearTimeout(this.#timer)
    clearImmediate(this.#rest)
    this.#dirty.clear()
  }
}
