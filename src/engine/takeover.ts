import type { StreamLog } from '../cache/stream-log.js'
import type { Cluster } from '../cluster/cluster.js'
import { AppError } from '../errors.js'
import type { Log } from '../logging.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import { Outage } from '../outage.js'
import type { ChatEvents } from '../reply/chat-events.js'
import type { HeldReplies } from '../reply/held-replies.js'
import { type KeptText, LiveReply } from '../reply/live-reply.js'
import { presentMessage } from '../reply/present.js'
import { keptText, type ReplyState } from '../reply/reply-state.js'
import type { MessageRow, Store } from '../stores/store.js'
import { within } from '../within.js'
import type { Runner } from './runner.js'

/** Lapsed replies that are looked at in one pass. */
const perPass = 500
/** How long a pass waits for Ollama's answer about a model, in milliseconds. */
const modelMs = 1000
/** How long closing waits for a pass under way, in milliseconds. */
const passEndMs = 1000

interface Parts {
  store: Pick<Store, 'firstLeaseEnd' | 'findLapsedReplies'>
  state: ReplyState
  held: HeldReplies
  runner: Pick<Runner, 'hold'>
  catalogue: Pick<ModelCatalogue, 'findNow'>
  streamLog: StreamLog | undefined
  cluster: Pick<Cluster, 'forget'>
  chatEvents: ChatEvents
  /** From one look to the next: `idleMs` while no lease ends, `againMs` when one has. */
  pauses: { idleMs: number; againMs: number }
  log: Log
}

/** Finds replies whose owner is gone, and goes on with them. */
export class Takeover {
  #timer: NodeJS.Timeout | undefined
  #pass: Promise<void> | undefined
  #mustLookAgain = false
  #isClosed = false
  /** The lapsed leases that were found, by reply: where each ended, and when it was first seen. */
  #lapsed = new Map<string, { leaseUntil: number; seenAt: number }>()
  readonly #outage: Outage
  readonly #ollamaOutage: Outage

  constructor(private readonly parts: Parts) {
    this.#outage = new Outage(parts.log, {
      failing:
        'could not look for replies of dead servers; trying again until the database answers',
      over: 'replies of dead servers are looked for again',
    })
    this.#ollamaOutage = new Outage(parts.log, {
      failing:
        'takeover waits for Ollama to say whether the model can go on with a begun reply; trying again',
      over: 'takeover has heard from Ollama again',
    })
  }

  /** Looks now, and then whenever a lease ends, at least every `idleMs`. */
  look(): void {
    if (this.#isClosed) return
    clearTimeout(this.#timer)
    this.#mustLookAgain = this.#pass !== undefined
    this.#pass ??= this.#takeLapsed()
      .then((nextMs) => {
        this.#outage.over()
        return nextMs
      })
      .catch((error: unknown) => {
        this.#outage.failed(error)
        return this.parts.pauses.againMs
      })
      .then((nextMs) => {
        this.#pass = undefined
        if (this.#isClosed) return
        this.#timer = setTimeout(() => this.look(), this.#mustLookAgain ? 0 : nextMs).unref()
      })
  }

  /** @returns after how many milliseconds to look again. */
  async #takeLapsed(): Promise<number> {
    const { idleMs, againMs } = this.parts.pauses
    const firstEnd = await this.parts.store.firstLeaseEnd()
    const inMs = firstEnd ? firstEnd.getTime() - Date.now() : idleMs
    if (inMs > 0) {
      this.#lapsed.clear()
      return Math.min(inMs + 1, idleMs)
    }
    /** Chats with a reply that was not taken: later ones of the chat wait for it. */
    const waiting = new Set<string>()
    let isOllamaAway = false
    const rows = await this.parts.store.findLapsedReplies(new Date(), perPass)
    this.#noteLapsed(rows)
    for (const row of rows) {
      if (this.#isClosed) break
      if (this.parts.held.isOwn(row.id) || waiting.has(row.chatId)) continue
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
   * Whether nobody holds a lapsed reply. After an outage of the store a living owner renews its
   * leases at once, so a lapse counts only when it was seen a while ago.
   */
  #isForsaken(row: MessageRow): boolean {
    const found = this.#lapsed.get(row.id)
    if (!found || found.leaseUntil === 0) return true
    return Date.now() - found.seenAt >= this.parts.pauses.againMs
  }

  async #take(row: MessageRow): Promise<'waits' | undefined> {
    if (row.status === 'streaming' && this.parts.state.isExhausted(row)) {
      await this.#interrupt(row, new AppError('REPLY_INTERRUPTED'))
      return undefined
    }
    const text = await this.#textToGoOnFrom(row)
    if (text === 'waits') return text
    if (!text || this.#isClosed) return undefined
    const claimed = await this.parts.state.claim(row, text)
    if (!claimed) return undefined
    if (claimed.epoch > row.epoch) await this.parts.streamLog?.close(row.id, row.epoch)
    this.parts.log.info(
      { replyId: row.id, epoch: claimed.epoch, offset: text.content.length },
      'reply taken over',
    )
    this.parts.runner.hold(new LiveReply(claimed, text))
    return undefined
  }

  /** The kept text if the model can go on from it, else none; undefined when the reply has ended. */
  async #textToGoOnFrom(row: MessageRow): Promise<KeptText | 'waits' | undefined> {
    const kept = await keptText(row, this.parts.streamLog)
    const discarded = kept.tokens.kept + kept.tokens.discarded
    const afresh = { content: '', thinking: '', tokens: { kept: 0, discarded } }
    if (kept.content === '') return afresh
    try {
      const model = await within(this.parts.catalogue.findNow(row.model), modelMs)
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
    const text = await keptText(row, this.parts.streamLog)
    const outcome = { status: 'interrupted', error, text } as const
    const ended = await this.parts.state.endLapsed(row, outcome)
    if (!ended) return
    this.parts.cluster.forget(row.id)
    this.parts.chatEvents.toChat(row.chatId, 'message', presentMessage(ended))
    this.parts.log.info({ replyId: row.id, code: why.code }, 'reply interrupted')
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    if (this.#pass) await within(this.#pass, passEndMs)
  }
}

/** Whether its model has to say whether it can go on with the text. */
function needsModel({ status, content }: MessageRow): boolean {
  return status === 'streaming' && content !== ''
}
