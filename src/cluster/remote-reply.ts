import type { Message, MessageChunk } from '../../schemas/messages.js'
import { replyChannel } from '../cache/keys.js'
import type { StreamLog, TextParts } from '../cache/stream-log.js'
import type { ChatEvents } from '../reply/chat-events.js'
import { LiveReply } from '../reply/live-reply.js'
import type { MessageRow } from '../stores/store.js'
import type { ClusterBus } from './cluster-bus.js'

/** Text that waits for what is missing before it, in UTF-16 units; of more, the newest is kept. */
const maxAheadUnits = 1024 * 1024
/** How often, and how many times, text that the log does not have yet is asked for again. */
const retry = { ms: 50, tries: 20 }

export interface RemoteReplyParts {
  chatEvents: ChatEvents
  log: StreamLog
  bus: ClusterBus
}

/** Text that was told, before which text is missing. */
interface Ahead {
  offset: number
  text: string
}

/**
 * A run of a reply that another server holds, followed here: its text grows by the frames that
 * server tells, and what was lost on the way comes from the stream log, or the store's checkpoint.
 * To sockets and streams of this server it is like a reply of its own.
 */
export class RemoteReply {
  readonly reply: LiveReply
  /** When what is known was last up to date, in milliseconds since 1970. */
  heardAt = Date.now()
  readonly #ahead: { content?: Ahead | undefined; thinking?: Ahead | undefined } = {}
  #fetching = false
  #subscribed: Promise<() => Promise<void>> | undefined

  constructor(
    row: MessageRow,
    private readonly parts: RemoteReplyParts,
  ) {
    // Before the epoch's beginning nothing is announced anew.
    const content = row.content.slice(0, row.epochStart)
    this.reply = new LiveReply(row, { content, thinking: '' })
    this.take(row)
  }

  get epoch(): number {
    return this.reply.epoch
  }

  /** Hears the frames from now on, and fetches what came before; once. */
  async follow(): Promise<void> {
    if (this.#subscribed) return
    const hear = (frame: MessageChunk) => this.#hear(frame)
    this.#subscribed = this.parts.bus.hear<MessageChunk>(replyChannel(this.reply.id), hear)
    await this.#subscribed
    await this.#catchUp()
  }

  /** Takes the store's record: its text may be further, and the reply may have begun. */
  take(row: MessageRow): void {
    this.heardAt = Date.now()
    if (row.status === 'streaming' && this.reply.row.status === 'queued') this.reply.begin(row)
    this.#extend(
      { content: row.content, thinking: row.thinking ?? '' },
      { content: 0, thinking: 0 },
    )
    this.#applyAhead()
  }

  /** The reply has ended, and so has this. */
  end(message: Message): void {
    const { createdAt: _, completedAt, ...told } = message
    const { content, thinking = '' } = told
    // One that another run ended says something else.
    if (content.startsWith(this.reply.text.whole)) {
      this.#extend({ content, thinking }, { content: 0, thinking: 0 })
    }
    this.parts.chatEvents.toChat(this.reply.chatId, 'message', message, 'peer')
    // A run that began anew has dropped what the one before it thought.
    const { thinking: __, ...row } = this.reply.row
    const ended = completedAt && { completedAt: new Date(completedAt) }
    this.#close({ ...row, ...told, ...ended })
  }

  /** This run is not to be followed any more. */
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
    // What cannot be applied counts as silence, which has the store's checkpoint read.
    if (this.#applyAhead()) this.heardAt = Date.now()
    else void this.#catchUp()
  }

  /** Applies what was told as far as nothing is missing before it. @returns whether all was applied. */
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

  /** Fetches what is missing before the text that was told already. */
  async #catchUp(): Promise<void> {
    if (this.#fetching) return
    this.#fetching = true
    for (let tries = 0; tries < retry.tries && !this.reply.isOver; tries += 1) {
      const known = { content: this.#length('content'), thinking: this.#length('thinking') }
      this.#extend(await this.parts.log.read(this.reply.id, this.epoch, known), known)
      if (this.#applyAhead()) break
      await new Promise((resolve) => setTimeout(resolve, retry.ms).unref())
    }
    this.#fetching = false
  }

  /** Announces what the texts, which begin at `from`, have beyond what is known. */
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
