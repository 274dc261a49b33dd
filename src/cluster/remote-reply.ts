import { setTimeout as delay } from 'node:timers/promises'
import type { Message, MessageChunk } from '../../schemas/messages.js'
import { replyChannel } from '../cache/keys.js'
import type { StreamLog, TextParts } from '../cache/stream-log.js'
import type { ChatEvents } from '../reply/chat-events.js'
import { LiveReply } from '../reply/live-reply.js'
import type { MessageRow } from '../stores/store.js'
import type { ClusterBus } from './cluster-bus.js'

/** The longest text kept while text before it is missing, in UTF-16 units; then the newest counts. */
const maxAheadUnits = 1024 * 1024
/** How often, and how many times, the log is asked for missing text. */
const catchUp = { everyMs: 50, tries: 20 }

export interface RemoteReplyParts {
  chatEvents: ChatEvents
  streamLog: StreamLog
  bus: ClusterBus
}

/** Text that came while text before it is missing. */
interface Ahead {
  offset: number
  text: string
}

/**
 * One run of a reply that another server holds. Its text grows by that server's frames; lost ones
 * come from the stream log or the store's checkpoint. Clients here hear it like a reply of their own
 * server.
 */
export class RemoteReply {
  readonly reply: LiveReply
  /** When it was last known to be up to date, in milliseconds since 1970. */
  heardAt = Date.now()
  readonly #ahead: { content?: Ahead | undefined; thinking?: Ahead | undefined } = {}
  #isCatchingUp = false
  #subscribed: Promise<() => Promise<void>> | undefined

  constructor(
    row: MessageRow,
    private readonly parts: RemoteReplyParts,
  ) {
    // Text from before this epoch is not announced again.
    const content = row.content.slice(0, row.epochStart)
    this.reply = new LiveReply(row, { content, thinking: '' })
    this.take(row)
  }

  get epoch(): number {
    return this.reply.epoch
  }

  /** Subscribes to its frames, and fetches what came before. Later calls do nothing. */
  async follow(): Promise<void> {
    if (this.#subscribed) return
    const hear = (frame: MessageChunk) => this.#hear(frame)
    this.#subscribed = this.parts.bus.hear<MessageChunk>(replyChannel(this.reply.id), hear)
    await this.#subscribed
    await this.#catchUp()
  }

  /** Takes over what the store's record has more: text, or that the reply has begun. */
  take(row: MessageRow): void {
    this.heardAt = Date.now()
    if (row.status === 'streaming' && this.reply.row.status === 'queued') this.reply.begin(row)
    this.#extend(
      { content: row.content, thinking: row.thinking ?? '' },
      { content: 0, thinking: 0 },
    )
    this.#applyAhead()
  }

  /** Ends with the reply; @param message its record as it was told. */
  end(message: Message): void {
    const { createdAt: _, completedAt, ...told } = message
    const { content, thinking = '' } = told
    // A later run may have ended with another text.
    if (content.startsWith(this.reply.text.whole)) {
      this.#extend({ content, thinking }, { content: 0, thinking: 0 })
    }
    this.parts.chatEvents.toChat(this.reply.chatId, 'message', message, 'peer')
    // The record's thinking may be an earlier run's, which was dropped.
    const { thinking: __, ...row } = this.reply.row
    const ended = completedAt && { completedAt: new Date(completedAt) }
    this.#close({ ...row, ...told, ...ended })
  }

  /** Stops following this run. */
  lose(): void {
    this.#close(undefined)
  }

  #close(row: MessageRow | undefined): void {
    this.reply.finish(row)
    void this.#subscribed?.then((unsubscribe) => unsubscribe())
  }

  #hear({ epoch, offset, delta, thinking }: MessageChunk): void {
    if (epoch !== this.epoch || this.reply.isOver) return
    const part = thinking ? 'thinking' : 'content'
    const ahead = this.#ahead[part]
    const follows = ahead && ahead.offset + ahead.text.length === offset
    const isTooMuch = ahead && ahead.text.length + delta.length > maxAheadUnits
    if (follows && !isTooMuch) ahead.text += delta
    else this.#ahead[part] = { offset, text: delta }
    // Frames that cannot be applied count as silence, after which the store is asked.
    if (this.#applyAhead()) this.heardAt = Date.now()
    else void this.#catchUp()
  }

  /** Applies the kept frames if no text before them is missing. @returns whether none is left. */
  #applyAhead(): boolean {
    for (const part of ['thinking', 'content'] as const) {
      const ahead = this.#ahead[part]
      if (!ahead || ahead.offset > this.#length(part)) continue
      const from = { content: 0, thinking: 0, [part]: ahead.offset }
      this.#ahead[part] = undefined
      this.#extend({ content: '', thinking: '', [part]: ahead.text }, from)
    }
    return !this.#ahead.content && !this.#ahead.thinking
  }

  /** Fetches missing text from the log, until the kept frames follow it. */
  async #catchUp(): Promise<void> {
    if (this.#isCatchingUp) return
    this.#isCatchingUp = true
    for (let tries = 0; tries < catchUp.tries && !this.reply.isOver; tries += 1) {
      const known = { content: this.#length('content'), thinking: this.#length('thinking') }
      this.#extend(await this.parts.streamLog.read(this.reply.id, this.epoch, known), known)
      if (this.#applyAhead()) break
      await delay(catchUp.everyMs, undefined, { ref: false })
    }
    this.#isCatchingUp = false
  }

  /** Announces what is new in texts that begin at `from`. */
  #extend(texts: TextParts, from: { content: number; thinking: number }): void {
    if (this.reply.isOver) return
    const content = texts.content.slice(this.#length('content') - from.content)
    const thinking = texts.thinking.slice(this.#length('thinking') - from.thinking)
    if (!content && !thinking) return
    this.reply.append(content, thinking)
    this.reply.flush((frame) => {
      this.parts.chatEvents.toChat(frame.chatId, 'message-chunk', frame, 'peer')
    })
  }

  #length(part: 'content' | 'thinking'): number {
    return part === 'content' ? this.reply.text.length : this.reply.thinking.length
  }
}
