import type { MessageChunk } from '../../schemas/messages.js'
import type { Arriving } from '../ollama/client.js'
import type { ChatRow, MessageRow } from '../stores/store.js'
import type { Place } from './fair-queue.js'

/** Why a reply's run is ended from outside. */
export type Interruption = 'stopped' | 'lost' | 'released' | 'overlong'

/** The longest frame of a reply's text or thinking, in UTF-16 units: 64 KiB hold any text of it. */
const sliceUnits = 16 * 1024

/** One kind of a reply's text: what was announced, and what came since. */
class GrowingText {
  /** Announced text, and the length of it. */
  announced: string
  #pending = ''

  constructor(text: string) {
    this.announced = text
  }

  get whole(): string {
    return this.announced + this.#pending
  }

  get length(): number {
    return this.announced.length + this.#pending.length
  }

  get hasPending(): boolean {
    return this.#pending !== ''
  }

  append(delta: string): void {
    this.#pending += delta
  }

  /** Announces one slice of what came since, and answers with it. */
  flush(): { offset: number; delta: string } {
    const offset = this.announced.length
    const delta = sliceOf(this.#pending, 0)
    this.#pending = delta.length === this.#pending.length ? '' : this.#pending.slice(delta.length)
    this.announced += delta
    return { offset, delta }
  }
}

/**
 * A reply that this process holds: waiting in the queue, or running. Its text grows here; what was
 * announced of it is what the store's checkpoints, sockets and followers may see.
 */
export class LiveReply {
  readonly id: string
  readonly userId: string
  readonly chatId: string
  readonly seq: number
  readonly text: GrowingText
  readonly thinking: GrowingText
  /** Whether the text changed since the last checkpoint. */
  dirty = false
  /** Whether its end is being stored: a checkpoint that misses it says nothing then. */
  isEnding = false
  /** What comes from the model; set once something is to be read. */
  arriving: Arriving | undefined
  /** Where it waits; undefined once it runs. */
  place: Place | undefined
  /** Ends the run; its reason is an Interruption. */
  readonly #controller = new AbortController()
  readonly #watchers = new Set<() => void>()
  /** The last frame, so that followers who are up to date share it. */
  #lastFrame: MessageChunk | undefined
  /** The frames that begin a slice, so that those who are behind share them. */
  readonly #frames = {
    text: new Map<number, MessageChunk>(),
    thinking: new Map<number, MessageChunk>(),
  }
  #ended = false
  #givenUp = false
  readonly #resolveEnd: (row: MessageRow | undefined) => void
  /**
   * The record as it ended; undefined when this process lost it: it was deleted, or another
   * process holds it or has ended it.
   */
  readonly end: Promise<MessageRow | undefined>

  /**
   * @param row the record as this process holds it; @param text what it begins with.
   * @param begunIn its chat, where the record was stored as that of a reply that has begun.
   */
  constructor(
    public row: MessageRow,
    text: { content: string; thinking: string },
    readonly begunIn?: ChatRow,
  ) {
    this.id = row.id
    this.userId = row.userId
    this.chatId = row.chatId
    this.seq = row.seq
    this.text = new GrowingText(text.content)
    this.thinking = new GrowingText(text.thinking)
    let resolveEnd: (row: MessageRow | undefined) => void = () => {}
    this.end = new Promise((resolve) => {
      resolveEnd = resolve
    })
    this.#resolveEnd = resolveEnd
  }

  /** A reply that has yet to begin. */
  static queued(row: MessageRow): LiveReply {
    return new LiveReply(row, { content: '', thinking: '' })
  }

  /** A reply whose record was just stored as that of one that has begun; @param chat as it is. */
  static begun(row: MessageRow, chat: ChatRow): LiveReply {
    return new LiveReply(row, { content: '', thinking: '' }, chat)
  }

  get epoch(): number {
    return this.row.epoch
  }

  /** Whether nothing has come of it yet. */
  get isSilent(): boolean {
    return this.text.length === 0 && this.thinking.length === 0
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get interruption(): Interruption | undefined {
    return this.#controller.signal.reason
  }

  get isOver(): boolean {
    return this.#ended
  }

  /** Whether this process is to do no more about it. */
  get isGivenUp(): boolean {
    return this.#givenUp
  }

  /** Only the first reason ends the run; a process that goes down or loses the reply gives it up. */
  interrupt(reason: Interruption): void {
    this.#givenUp ||= reason === 'lost' || reason === 'released'
    this.#controller.abort(reason)
  }

  waitAt(place: Place): void {
    this.place = place
    this.#wake()
  }

  /** Its turn has come, with the record as it then is. */
  begin(row: MessageRow): void {
    this.row = row
    this.place = undefined
    this.#wake()
  }

  append(content: string, thinking: string): void {
    if (content) this.text.append(content)
    if (thinking) this.thinking.append(thinking)
    this.dirty = true
  }

  /** Announces what is pending to `tell`: thinking first, as a model thinks before it speaks. */
  flush(tell: (frame: MessageChunk) => void): void {
    const { chatId, id: messageId, epoch } = this
    while (this.thinking.hasPending) {
      const { offset, delta } = this.thinking.flush()
      tell({ chatId, messageId, epoch, offset, delta, thinking: true })
    }
    while (this.text.hasPending) {
      const { offset, delta } = this.text.flush()
      this.#lastFrame = { chatId, messageId, epoch, offset, delta }
      tell(this.#lastFrame)
    }
    this.#wake()
  }

  /** The frame of announced text that begins at `offset`, of one slice at most. */
  frameFrom(offset: number, thinking: boolean): MessageChunk {
    if (!thinking && this.#lastFrame?.offset === offset) return this.#lastFrame
    const frames = thinking ? this.#frames.thinking : this.#frames.text
    const text = thinking ? this.thinking.announced : this.text.announced
    const end = sliceEnd(text, offset)
    const known = frames.get(offset)
    if (known && offset + known.delta.length === end) return known
    const frame: MessageChunk = {
      chatId: this.chatId,
      messageId: this.id,
      epoch: this.epoch,
      offset,
      // Copied: a slice keeps the whole text that it was cut from, for as long as it waits.
      delta: Buffer.from(text.slice(offset, end)).toString(),
      ...(thinking && { thinking: true as const }),
    }
    if (beginsSlice(offset)) frames.set(offset, frame)
    return frame
  }

  /** Settles the run: with the record as it ended, or with nothing when it was lost. */
  finish(row: MessageRow | undefined): void {
    if (this.#ended) return
    this.#ended = true
    if (row) this.row = row
    this.#resolveEnd(row)
    this.#wake()
  }

  /** Resolves at the next flush or at the end, or when the signal is aborted. */
  changed(signal: AbortSignal): Promise<void> {
    if (this.#ended || signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const wake = () => {
        this.#watchers.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#watchers.add(wake)
      signal.addEventListener('abort', wake)
    })
  }

  #wake(): void {
    for (const wake of this.#watchers) wake()
  }
}

/** The rest of the slice of `text` that `offset` is in. */
export const sliceOf = (text: string, offset: number) => text.slice(offset, sliceEnd(text, offset))

/** Slices end at the same places for everyone, and never inside a surrogate pair. */
function sliceEnd(text: string, offset: number): number {
  const end = (Math.floor(offset / sliceUnits) + 1) * sliceUnits
  if (end >= text.length) return text.length
  const lastUnit = text.charCodeAt(end - 1)
  return lastUnit >= 0xd800 && lastUnit <= 0xdbff ? end + 1 : end
}

/** Whether a slice may begin at `offset`: a unit later where a pair would have been split. */
const beginsSlice = (offset: number) => offset % sliceUnits <= 1
