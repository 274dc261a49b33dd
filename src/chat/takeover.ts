import type { StreamLog, TextParts } from '../cache/stream-log.js'
import { AppError } from '../errors.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import type { MessageRow, Store } from '../stores/store.js'
import { within } from '../within.js'
import type { Hub } from './hub.js'
import { keptText } from './kept-text.js'
import { LiveReply } from './live-reply.js'
import { presentMessage } from './present.js'
import type { ReplyState } from './reply-state.js'

/** Lapsed replies that are looked at in one pass. */
const perPass = 500
/** How long a pass waits for what Ollama tells of a model, in milliseconds. */
const modelMs = 1000
/** How long closing waits for a pass under way, in milliseconds. */
const passEndMs = 1000

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
    /** Those that this process holds, or is about to: it renews their leases itself. */
    private readonly isOwn: (messageId: string) => boolean,
    /** Called with a reply that this process has claimed. */
    private readonly onClaimed: (reply: LiveReply) => void,
    private readonly log: Log,
  ) {}

  /** Looks now, and then every `everyMs`. */
  start(everyMs: number): void {
    this.#look()
    this.#timer = setInterval(() => this.#look(), everyMs).unref()
  }

  /** One pass at a time; a fault is logged, and the next pass tries again. */
  #look(): void {
    this.#pass ??= this.#takeLapsed()
      .catch((error: unknown) => this.log.warn({ err: error }, 'no replies could be taken over'))
      .finally(() => {
        this.#pass = undefined
      })
  }

  async #takeLapsed(): Promise<void> {
    /** The chats with a reply that waits for Ollama: those after it wait for it. */
    const waiting = new Set<string>()
    for (const row of await this.store.findLapsedReplies(new Date(), perPass)) {
      if (this.#closed) return
      if (this.isOwn(row.id) || waiting.has(row.chatId)) continue
      // What one had to wait for, each of the others would.
      if (waiting.size > 0 && needsModel(row)) waiting.add(row.chatId)
      else if ((await this.#take(row)) === 'waits') waiting.add(row.chatId)
    }
  }

  async #take(row: MessageRow): Promise<'waits' | undefined> {
    if (row.status === 'streaming' && this.state.isExhausted(row)) {
      await this.#interrupt(row, new AppError('REPLY_INTERRUPTED'))
      return undefined
    }
    const text = await this.#textToGoOnFrom(row)
    if (text === 'waits') return text
    if (!text || this.#closed) return undefined
    const claimed = await this.state.claim(row, text)
    if (!claimed) return undefined
    if (claimed.epoch > row.epoch) await this.streamLog?.close(row.id, row.epoch)
    this.log.info(
      { replyId: row.id, epoch: claimed.epoch, offset: text.content.length },
      'reply taken over',
    )
    this.onClaimed(new LiveReply(claimed, text))
    return undefined
  }

  /** The kept text where the model can go on from it, else none; undefined when it has ended. */
  async #textToGoOnFrom(row: MessageRow): Promise<TextParts | 'waits' | undefined> {
    const afresh = { content: '', thinking: '' }
    if (row.status !== 'streaming') return afresh
    const kept = await keptText(row, this.streamLog)
    if (kept.content === '') return afresh
    try {
      const model = await within(this.catalogue.find(row.model), modelMs)
      if (!model) throw new AppError('MODEL_TIMEOUT')
      return model.continues ? kept : afresh
    } catch (error) {
      if (error instanceof AppError && error.code === 'MODEL_NOT_FOUND') {
        await this.#interrupt(row, error)
        return undefined
      }
      this.log.warn({ err: error, replyId: row.id }, 'takeover waits for Ollama')
      return 'waits'
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
    if (this.#pass) await within(this.#pass, passEndMs)
  }
}

/** Whether only the model tells where to go on from. */
function needsModel({ status, content }: MessageRow): boolean {
  return status === 'streaming' && content !== ''
}
