import type { MessageChunk } from '../../schemas/messages.js'
import type { MessageRow } from '../stores/store.js'
import type { Place } from './fair-queue.js'

/** Why a reply's run is ended from outside. */
export type Interruption = 'stopped' | 'lost' | 'released' | 'overlong'

/** A frame of a reply's text or thinking, at most this many UTF-16 units long. */
const sliceUnits = 64 * 1024

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
  readonly text: GrowingText
  readonly thinking: GrowingText
  /** Whether the text changed since the last checkpoint. */
  dirty = false
  /** Whether its end is being stored: a checkpoint that misses it says nothing then. */
  isEnding = false
  /** Where it waits; undefined once it runs. */
  place: Place | undefined
  /** Ends the run; its reason is an Interruption. */
  readonly #controller = new AbortController()
  readonly #watchers = new Set<() => void>()
  /** The last frame, so that followers who are up to date share it. */
  #lastFrame: MessageChunk | undefined
  #ended = false
  #givenUp = false
  readonly #resolveEnd: (row: MessageRow | undefined) => void
  /**
   * The record as it ended; undefined when this process lost it: it was deleted, or another
   * process holds it or has ended it.
   */
  readonly end: Promise<MessageRow | undefined>

  /** @param row the record as this process holds it; @param text what it begins with. */
  constructor(
    public row: MessageRow,
    text: { content: string; thinking: string },
  ) {
    this.id = row.id
    this.userId = row.userId
    this.chatId = row.chatId
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

  get epoch(): number {
    return this.row.epoch
  }

  get hasPending(): boolean {
    return this.text.hasPending || this.thinking.hasPending
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

  /** Announces what is pending: thinking first, as a model thinks before it speaks. */
  *flush(): Generator<MessageChunk> {
    const { chatId, id: messageId, epoch } = this
    while (this.thinking.hasPending) {
      yield { chatId, messageId, epoch, ...this.thinking.flush(), thinking: true }
    }
    while (this.text.hasPending) {
      this.#lastFrame = { chatId, messageId, epoch, ...this.text.flush() }
      yield this.#lastFrame
    }
    this.#wake()
  }

  /** The frame of announced text that begins at `offset`, of one slice at most. */
  frameFrom(offset: number, thinking: boolean): MessageChunk {
    if (!thinking && this.#lastFrame?.offset === offset) return this.#lastFrame
    const text = thinking ? this.thinking.announced : this.text.announced
    return {
      chatId: this.chatId,
      messageId: this.id,
      epoch: this.epoch,
      offset,
      delta: sliceOf(text, offset),
      ...(thinking && { thinking: true as const }),
    }
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

/** At most one slice of `text` from `offset` on, never ending inside a surrogate pair. */
export function sliceOf(text: string, offset: number): string {
  const end = offset + sliceUnits
  if (end >= text.length) return text.slice(offset)
  const lastUnit = text.charCodeAt(end - 1)
  const splitsPair = lastUnit >= 0xd800 && lastUnit <= 0xdbff
  return text.slice(offset, splitsPair ? end - 1 : end)
}
