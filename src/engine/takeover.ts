import type { StreamLog } from '../cache/stream-log.js'
import { AppError } from '../errors.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import { Outage } from '../outage.js'
import type { ChatEvents } from '../reply/chat-events.js'
import { keptText } from '../reply/kept-text.js'
import { LiveReply } from '../reply/live-reply.js'
import { presentMessage } from '../reply/present.js'
import type { KeptText, ReplyState } from '../reply/reply-state.js'
import type { MessageRow, Store } from '../stores/store.js'
import { within } from '../within.js'

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
  #isLookWanted = false
  #closed = false
  /** The lapsed leases that were found, by reply: where each ended, and when it was first seen. */
  #lapsed = new Map<string, { leaseUntil: number; seenAt: number }>()
  readonly #outage: Outage
  readonly #ollamaOutage: Outage

  constructor(
    private readonly store: Store,
    private readonly state: ReplyState,
    private readonly catalogue: ModelCatalogue,
    private readonly streamLog: StreamLog | undefined,
    private readonly chatEvents: ChatEvents,
    /** Those that this process holds, or is about to: it renews their leases itself. */
    private readonly isOwn: (messageId: string) => boolean,
    /** Called with a reply that this process has claimed. */
    private readonly onClaimed: (reply: LiveReply) => void,
    /** `idleMs` from one look to the next where no lease ends; `againMs` where one has. */
    private readonly pauses: { idleMs: number; againMs: number },
    private readonly log: Log,
  ) {
    this.#outage = new Outage(log, {
      failing:
        'could not look for replies of dead servers; trying again until the database answers',
      over: 'replies of dead servers are looked for again',
    })
    this.#ollamaOutage = new Outage(log, {
      failing: 'takeover waits for Ollama, which has to say how a model goes on with a begun reply',
      over: 'takeover has heard from Ollama again',
    })
  }

  /** Looks now, and from then on whenever a lease ends, or else every `idleMs`. */
  look(): void {
    if (this.#closed) return
    clearTimeout(this.#timer)
    this.#isLookWanted = this.#pass !== undefined
    this.#pass ??= this.#takeLapsed()
      .then((nextMs) => {
        this.#outage.over()
        return nextMs
      })
      .catch((error: unknown) => {
        this.#outage.failed(error)
        return this.pauses.againMs
      })
      .then((nextMs) => {
        this.#pass = undefined
        if (this.#closed) return
        this.#timer = setTimeout(() => this.look(), this.#isLookWanted ? 0 : nextMs).unref()
      })
  }

  /** @returns after how many milliseconds to look again. */
  async #takeLapsed(): Promise<number> {
    const { idleMs, againMs } = this.pauses
    const firstEnd = await this.store.firstLeaseEnd()
    const inMs = firstEnd ? firstEnd.getTime() - Date.now() : idleMs
    if (inMs > 0) {
      this.#lapsed.clear()
      return Math.min(inMs + 1, idleMs)
    }
    /** Chats with a reply that is not taken yet: those after it wait for it. */
    const waiting = new Set<string>()
    let isOllamaAway = false
    const rows = await this.store.findLapsedReplies(new Date(), perPass)
    this.#noteLapsed(rows)
    for (const row of rows) {
      if (this.#closed) break
      if (this.isOwn(row.id) || waiting.has(row.chatId)) continue
      // If Ollama timed out once, skip what needs it for this pass.
      const isLater = !this.#isForsaken(row) || (isOllamaAway && needsModel(row))
      if (isLater) waiting.add(row.chatId)
      else if ((await this.#take(row)) === 'waits') {
        waiting.add(row.chatId)
        isOllamaAway = true
      }
    }
    return againMs
  }

  #noteLapsed(rows: readonly MessageRow[]): void {
    const now = Date.now()
    const seen = this.#lapsed
    this.#lapsed = new Map()
    for (const { id, leaseUntil } of rows) {
      const end = leaseUntil?.getTime() ?? 0
      const known = seen.get(id)
      this.#lapsed.set(id, known?.leaseUntil === end ? known : { leaseUntil: end, seenAt: now })
    }
  }

  /**
   * Whether nobody holds a lapsed reply. When the store was away its owner lives and renews the
   * lease as soon as the store answers, which it did when the lapse was first seen.
   */
  #isForsaken(row: MessageRow): boolean {
    const found = this.#lapsed.get(row.id)
    if (!found || found.leaseUntil === 0) return true
    return Date.now() - found.seenAt >= this.pauses.againMs
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
  async #textToGoOnFrom(row: MessageRow): Promise<KeptText | 'waits' | undefined> {
    const kept = await keptText(row, this.streamLog)
    const discarded = kept.tokens.kept + kept.tokens.discarded
    const afresh = { content: '', thinking: '', tokens: { kept: 0, discarded } }
    if (kept.content === '') return afresh
    try {
      const model = await within(this.catalogue.find(row.model), modelMs)
      if (!model) throw new AppError('MODEL_TIMEOUT')
      this.#ollamaOutage.over()
      return model.continues ? kept : afresh
    } catch (error) {
      if (error instanceof AppError && error.code === 'MODEL_NOT_FOUND') {
        await this.#interrupt(row, error)
        return undefined
      }
      this.#ollamaOutage.failed(error, { replyId: row.id })
      return 'waits'
    }
  }

  async #interrupt(row: MessageRow, why: AppError): Promise<void> {
    const error = { code: why.code, message: why.message }
    const text = await keptText(row, this.streamLog)
    const outcome = { status: 'interrupted', error, text } as const
    const ended = await this.state.endLapsed(row, outcome)
    if (!ended) return
    this.chatEvents.toChat(row.chatId, 'message', presentMessage(ended))
    this.log.info({ replyId: row.id, code: why.code }, 'reply interrupted')
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    if (this.#pass) await within(this.#pass, passEndMs)
  }
}

/** Whether only the model tells where to go on from. */
function needsModel({ status, content }: MessageRow): boolean {
  return status === 'streaming' && content !== ''
}
