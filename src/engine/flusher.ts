import type { MessageChunk } from '../../schemas/messages.js'
import type { ChatEvents } from '../reply/chat-events.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { Leases } from './leases.js'
import { LoopLoad } from './loop-load.js'

/** How soon it is asked again whether this process may speak for its replies, in milliseconds. */
const leaseRetryMs = 50

/**
 * Announces the text that running replies received: at the end of the loop's turn that read it, or,
 * while the process is short of time, after a wait that lets more text share a frame.
 */
export class Flusher {
  /** Replies with text to announce; one whose text was announced or given up meanwhile is passed over. */
  #pending: LiveReply[] = []
  #isScheduled = false
  #immediate: NodeJS.Immediate | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly chatEvents: ChatEvents,
    private readonly leases: Pick<Leases, 'valid'>,
    private readonly load: Pick<LoopLoad, 'waitMs'> = new LoopLoad(),
  ) {}

  /** A reply received text; its first does not wait. */
  add(reply: LiveReply, isFirst = false): void {
    if (isFirst && this.leases.valid) {
      this.announce(reply)
      return
    }
    if (reply.awaitsFlush) return
    reply.awaitsFlush = true
    this.#pending.push(reply)
    if (!this.#isScheduled) this.#flushIn(this.load.waitMs())
  }

  /** Announces a reply's pending text now. */
  announce(reply: LiveReply): void {
    reply.awaitsFlush = false
    reply.flush(this.#tell)
  }

  /** Forgets what a lost reply had pending. */
  forget(reply: LiveReply): void {
    reply.awaitsFlush = false
  }

  close(): void {
    clearImmediate(this.#immediate)
    clearTimeout(this.#timer)
    this.#pending = []
  }

  #flushIn(ms: number): void {
    this.#isScheduled = true
    if (ms === 0) this.#immediate = setImmediate(this.#flush)
    else this.#timer = setTimeout(this.#flush, ms)
  }

  readonly #flush = () => {
    this.#isScheduled = false
    if (!this.leases.valid) {
      this.#pending = this.#pending.filter(({ awaitsFlush }) => awaitsFlush)
      if (this.#pending.length > 0) this.#flushIn(leaseRetryMs)
      return
    }
    const pending = this.#pending
    this.#pending = []
    for (const reply of pending) if (reply.awaitsFlush) this.announce(reply)
  }

  readonly #tell = (frame: MessageChunk) =>
    this.chatEvents.toChat(frame.chatId, 'message-chunk', frame)
}
