import type { StreamLog, TextLengths } from '../cache/stream-log.js'
import type { LiveReply } from '../reply/live-reply.js'

/** How long announced text may wait to share a command with what follows, in milliseconds. */
const writeEveryMs = 50
/** How often a log's expiry is renewed, in milliseconds; a log lives several times as long. */
const renewEveryMs = 10 * 60_000

interface Written {
  lengths: TextLengths
  /** Whether anything was sent to the log. */
  isBegun: boolean
  /** When the log's expiry was last renewed, by `performance.now()`. */
  renewedAt: number
  writing: Promise<void> | undefined
}

/** Appends what this server announces of its replies to the stream log. */
export class LogWriter {
  readonly #written = new Map<LiveReply, Written>()
  readonly #behind = new Set<LiveReply>()
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly log: StreamLog) {}

  /** A run of a reply begins; what it has so far is not logged again. */
  begin(reply: LiveReply): void {
    const renewedAt = Number.NEGATIVE_INFINITY
    const lengths = lengthsOf(reply)
    this.#written.set(reply, { lengths, isBegun: false, renewedAt, writing: undefined })
  }

  /** More was announced. */
  add(reply: LiveReply): void {
    this.#behind.add(reply)
    this.#timer ??= setTimeout(this.#tick, writeEveryMs)
  }

  /** Resolves when all that was announced until now was written to the log, or failed to be. */
  async flush(reply: LiveReply): Promise<void> {
    const written = this.#written.get(reply)
    await written?.writing
    if (written && this.#behind.delete(reply)) await this.#write(reply, written)
  }

  /** Closes the log of a run that is over: it then takes nothing more from any server. */
  async end(reply: LiveReply): Promise<void> {
    this.#behind.delete(reply)
    const written = this.#written.get(reply)
    this.#written.delete(reply)
    await written?.writing
    if (written?.isBegun) await this.log.close(reply.id, reply.epoch)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.log.stop()
  }

  readonly #tick = () => {
    this.#timer = undefined
    for (const reply of this.#behind) {
      const written = this.#written.get(reply)
      if (written?.writing) continue
      this.#behind.delete(reply)
      if (written) void this.#write(reply, written)
    }
    if (this.#behind.size > 0) this.#timer = setTimeout(this.#tick, writeEveryMs)
  }

  async #write(reply: LiveReply, written: Written): Promise<void> {
    written.writing = this.#append(reply, written)
    await written.writing
    written.writing = undefined
  }

  async #append(reply: LiveReply, written: Written): Promise<void> {
    const { id: messageId, epoch } = reply
    const { content, thinking } = written.lengths
    const end = lengthsOf(reply)
    const tokens = reply.announcedTokens
    const delta = {
      content: reply.text.slice(content),
      thinking: reply.thinking.slice(thinking),
    }
    if (!delta.content && !delta.thinking) return
    const now = performance.now()
    const renews = now - written.renewedAt > renewEveryMs
    written.isBegun = true
    if (await this.log.append({ messageId, epoch, end, delta, tokens, renews })) {
      written.lengths = end
      if (renews) written.renewedAt = now
    } else if (this.#written.has(reply)) this.add(reply)
  }
}

const lengthsOf = (reply: LiveReply): TextLengths => ({
  content: reply.text.length,
  thinking: reply.thinking.length,
})
