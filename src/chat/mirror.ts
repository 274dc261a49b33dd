import type { Message, MessageChunk } from '../../schemas/messages.js'
import { replyChannel } from '../cache/keys.js'
import type { StreamLog, TextParts } from '../cache/stream-log.js'
import type { MessageRow } from '../stores/store.js'
import type { Hub } from './hub.js'
import { LiveReply } from './live-reply.js'
import type { Peers } from './peers.js'

/** Frames that come while missed text is fetched; more than this are fetched as well. */
const maxEarly = 1000
/** How often, and how many times, text that the log does not have yet is asked for again. */
const retry = { ms: 50, tries: 20 }

export interface MirrorParts {
  hub: Hub
  log: StreamLog
  peers: Peers
}

/**
 * A run of a reply that another server holds, followed here: its text grows by the frames that
 * server tells, and what was lost on the way comes from the stream log, or the store's checkpoint.
 * To sockets and streams of this server it is like a reply of its own.
 */
export class Mirror {
  readonly reply: LiveReply
  /** When the holder was last heard of, in milliseconds since 1970. */
  heardAt = Date.now()
  /** Set while missed text is fetched: frames that came meanwhile. */
  #early: MessageChunk[] | undefined
  #subscribed: Promise<() => Promise<void>> | undefined

  constructor(
    row: MessageRow,
    private readonly parts: MirrorParts,
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
    this.#subscribed = this.parts.peers.hear<MessageChunk>(replyChannel(this.reply.id), hear)
    await this.#subscribed
    await this.#catchUp([])
  }

  /** Takes the store's record: its text may be further, and the reply may have begun. */
  take(row: MessageRow): void {
    this.heardAt = Date.now()
    if (row.status === 'streaming' && this.reply.row.status === 'queued') this.reply.begin(row)
    this.#extend(
      { content: row.content, thinking: row.thinking ?? '' },
      { content: 0, thinking: 0 },
    )
  }

  /** The reply has ended, and so has this. */
  end(message: Message): void {
    const { content, thinking = '', status, usage, error, completedAt } = message
    // One that another run ended says something else.
    if (content.startsWith(this.reply.text.whole)) {
      this.#extend({ content, thinking }, { content: 0, thinking: 0 })
    }
    this.parts.hub.toChat(this.reply.chatId, 'message', message, 'peer')
    // A run that began anew has dropped what the one before it thought.
    const { thinking: _, ...row } = this.reply.row
    this.#close({
      ...row,
      content,
      status,
      ...(thinking && { thinking }),
      ...(usage && { usage }),
      ...(error && { error }),
      ...(completedAt && { completedAt: new Date(completedAt) }),
    })
  }

  /** This run is not to be followed any more. */
  lose(): void {
    this.#close(undefined)
  }

  #close(row: MessageRow | undefined): void {
    this.reply.finish(row)
    void this.#subscribed?.then((unsubscribe) => unsubscribe())
  }

  #hear(frame: MessageChunk): void {
    if (frame.epoch !== this.epoch || this.reply.isOver) return
    this.heardAt = Date.now()
    if (this.#early) {
      if (this.#early.length < maxEarly) this.#early.push(frame)
    } else if (!this.#apply(frame)) void this.#catchUp([frame])
  }

  /** @returns false when text is missing before the frame. */
  #apply({ offset, delta, thinking }: MessageChunk): boolean {
    const part = thinking ? 'thinking' : 'content'
    const have = this.#length(part)
    if (offset > have) return false
    this.#extend(
      { content: '', thinking: '', [part]: delta },
      { content: offset, thinking: offset },
    )
    return true
  }

  /** Fetches what is missing before the frames that came already. */
  async #catchUp(early: MessageChunk[]): Promise<void> {
    this.#early = early
    for (let tries = 0; tries < retry.tries && !this.reply.isOver; tries += 1) {
      const known = { content: this.#length('content'), thinking: this.#length('thinking') }
      this.#extend(await this.parts.log.read(this.reply.id, this.epoch, known), known)
      while (early[0] && this.#apply(early[0])) early.shift()
      if (early.length === 0) break
      await new Promise((resolve) => setTimeout(resolve, retry.ms).unref())
    }
    this.#early = undefined
  }

  /** Announces what the texts, which begin at `from`, have beyond what is known. */
  #extend(texts: TextParts, from: { content: number; thinking: number }): void {
    if (this.reply.isOver) return
    const content = texts.content.slice(this.#length('content') - from.content)
    const thinking = texts.thinking.slice(this.#length('thinking') - from.thinking)
    if (!content && !thinking) return
    this.reply.append(content, thinking)
    this.reply.flush((frame) => {
      this.parts.hub.toChat(frame.chatId, 'message-chunk', frame, 'peer')
    })
  }

  #length(part: 'content' | 'thinking'): number {
    return part === 'content' ? this.reply.text.length : this.reply.thinking.length
  }
}
