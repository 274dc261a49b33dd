import type { MessageChunk } from '../../schemas/messages.js'
import type { ChatEvents } from '../reply/chat-events.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { Leases } from './leases.js'

/**
 * How long text may wait to share a read, a frame and their system calls with what follows, in
 * milliseconds. It grows with the root of what telling everyone once takes, which is where the sum
 * of waiting and of work is least (Young 1974, of checkpoints): text waits some 20 ms on a server
 * with little to do, and a busy one has nine frames a second of each reply.
 */
const round = { shortestMs: 10, longestMs: 110, atOneMs: 72 }
/** Replies that are told in one turn of the loop: a first token must not wait for all. */
const perTurn = 64
/**
 * The weight of the newest turn in what telling a reply is taken to cost: one that was slower than
 * that says little, as others may have had its core.
 */
const newest = { faster: 0.3, slower: 0.03 }

/**
 * Reads and announces what running replies have got: a reply's first token at once, then everything
 * of each once a round. A round of many replies has several turns, at equal distances.
 */
export class Flusher {
  /** Who is to be told of, in this order. */
  readonly #dirty = new Set<LiveReply>()
  /** The next turn; kept while one is under way. */
  #timer: NodeJS.Timeout | undefined
  /** From one turn to the next, in milliseconds. */
  #turnMs = round.shortestMs
  /** What telling one reply takes, in milliseconds, as it was lately. */
  #tellingMs = 0

  constructor(
    private readonly chatEvents: ChatEvents,
    private readonly leases: Pick<Leases, 'valid'>,
  ) {}

  /** Text came, or what has yet to be read. */
  add(reply: LiveReply, isFirst = false): void {
    if (isFirst && this.leases.valid) {
      this.announce(reply)
      return
    }
    this.#dirty.add(reply)
    this.#timer ??= setTimeout(this.#turn, this.#turnMs)
  }

  /** Announces a reply's pending text now. */
  announce(reply: LiveReply): void {
    this.#dirty.delete(reply)
    reply.flush(this.#tell)
  }

  readonly #tell = (frame: MessageChunk) =>
    this.chatEvents.toChat(frame.chatId, 'message-chunk', frame)

  /** Forgets what a reply that was lost had pending. */
  forget(reply: LiveReply): void {
    this.#dirty.delete(reply)
  }

  /** One turn: what has come of those who are next is read and announced. */
  readonly #turn = () => {
    const beganAt = performance.now()
    if (this.#dirty.size === 0) {
      this.#timer = undefined
      return
    }
    const roundMs = Math.sqrt(this.#tellingMs * this.#dirty.size) * round.atOneMs
    const replyResponses = Math.ceil(this.#dirty.size / perTurn)
    this.#turnMs = Math.min(Math.max(roundMs, round.shortestMs), round.longestMs) / replyResponses
    const next: LiveReply[] = []
    for (const reply of this.#dirty) {
      if (next.push(reply) === perTurn) break
    }
    if (this.leases.valid) {
      for (const reply of next) this.#readOne(reply)
      const moreMs = (performance.now() - beganAt) / next.length - this.#tellingMs
      this.#tellingMs += moreMs * (moreMs < 0 ? newest.faster : newest.slower)
    }
    const tookMs = performance.now() - beganAt
    // A process that has too much to do has half its time for other things.
    const restMs = Math.max(this.#turnMs - tookMs, tookMs)
    this.#timer = this.#dirty.size > 0 ? setTimeout(this.#turn, restMs) : undefined
  }

  #readOne(reply: LiveReply): void {
    // It may have ended, or been lost, since the turn began.
    if (!this.#dirty.has(reply)) return
    reply.arriving?.read()
    this.announce(reply)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#dirty.clear()
  }
}
