import type { StreamLog, TextParts } from '../cache/stream-log.js'
import { AppError } from '../errors.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import type { MessageRow, Store } from '../stores/store.js'
import type { Hub } from './hub.js'
import { keptText } from './kept-text.js'
import { LiveReply } from './live-reply.js'
import { presentMessage } from './present.js'
import type { ReplyState } from './reply-state.js'

/** Lapsed replies that are looked at in one pass. */
const perPass = 500

interface Log {
  info(details: object, message: string): void
  warn(details: object, message: string): void
}

/** Finds replies whose owner is gone, and goes on with them. */
export class Takeover {
  #timer: NodeJS.Timeout | undefined
  #pass: Promise<void> | undefined
  #closed = false

  constructor(
    private readonly store: Store,
    private readonly state: ReplyState,
    private readonly catalogue: ModelCatalogue,
    private readonly streamLog: StreamLog | undefined,
    private readonly hub: Hub,
    /** Those that this process holds, whose leases it renews itself. */
    private readonly held: ReadonlyMap<string, LiveReply>,
    /** Called with a reply that this process has claimed. */
    private readonly onClaimed: (reply: LiveReply) => void,
    private readonly log: Log,
  ) {}

  /** Looks now, and then every `everyMs`; resolves when the first look is done. */
  async start(everyMs: number): Promise<void> {
    await this.look()
    if (!this.#closed) this.#timer = setInterval(() => void this.look(), everyMs).unref()
  }

  /** One pass; a fault is logged, and the next pass tries again. */
  look(): Promise<void> {
    this.#pass ??= this.#look()
      .catch((error: unknown) => this.log.warn({ err: error }, 'no replies could be taken over'))
      .finally(() => {
        this.#pass = undefined
      })
    return this.#pass
  }

  async #look(): Promise<void> {
    // A chat's replies go on in their order: behind one that must wait, the later ones wait too.
    const waiting = new Set<string>()
    for (const row of await this.store.findLapsedReplies(new Date(), perPass)) {
      if (this.#closed) return
      if (this.held.has(row.id) || waiting.has(row.chatId)) continue
      if (!(await this.#take(row))) waiting.add(row.chatId)
    }
  }

  /** @returns false when the reply is to be looked at again. */
  async #take(row: MessageRow): Promise<boolean> {
    if (row.status === 'streaming' && this.state.isExhausted(row)) {
      await this.#interrupt(row, new AppError('REPLY_INTERRUPTED'))
      return true
    }
    const text = await this.#textToGoOnFrom(row)
    if (!text) return false
    const claimed = await this.state.claim(row, text)
    if (!claimed) return false
    await this.streamLog?.close(row.id, row.epoch)
    this.log.info(
      { replyId: row.id, epoch: claimed.epoch, offset: text.content.length },
      'reply taken over',
    )
    this.onClaimed(new LiveReply(claimed, text))
    return true
  }

  /** The kept text where the model can go on from it, else none; undefined: not to be taken now. */
  async #textToGoOnFrom(row: MessageRow): Promise<TextParts | undefined> {
    const afresh = { content: '', thinking: '' }
    if (row.status === 'queued') return afresh
    const kept = await keptText(row, this.streamLog)
    if (kept.content === '') return afresh
    try {
      const { continues } = await this.catalogue.find(row.model)
      return continues ? kept : afresh
    } catch (error) {
      if (error instanceof AppError && error.code === 'MODEL_NOT_FOUND') {
        await this.#interrupt(row, error)
      } else {
        this.log.warn({ err: error, replyId: row.id }, 'takeover waits for Ollama')
      }
      return undefined
    }
  }

  async #interrupt(row: MessageRow, why: AppError): Promise<void> {
    const error = { code: why.code, message: why.message }
    const text = await keptText(row, this.streamLog)
    const outcome = { status: 'interrupted', error, text } as const
    const ended = await this.state.end(row, outcome, row.owner ?? null)
    if (!ended) return
    this.hub.toChat(row.chatId, 'message', presentMessage(ended))
    this.log.info({ replyId: row.id, code: why.code }, 'reply interrupted')
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#pass
  }
}
