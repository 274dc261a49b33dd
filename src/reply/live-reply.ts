import type { MessageChunk, MessageStatus } from '../../schemas/messages.js'
import type { QueuePosition, Ticket } from '../queue/fair-order.js'
import type { ChatRow, MessageRow, TextPiece, TokenCount } from '../stores/store.js'
import { beginsSlice, GrowingText, wholePairs } from './growing-text.js'

/** Why a reply's run is ended from outside. */
export type Interruption = 'stopped' | 'lost' | 'released' | 'overlong'

/**
 * After so many pieces, or UTF-16 units that may have been stored twice, the store is given the texts
 * whole: a record of MongoDB's holds 16 MB, of which the longest reply takes 12.
 */
const most = { pieces: 1000, repeatedUnits: 256 * 1024 }

/** The text of a run for the next one to go on from, with the tokens it took. */
export interface KeptText {
  content: string
  thinking: string
  tokens: TokenCount
}

/** Whether a reply has reached a terminal state. */
export function hasEnded(row: { status: MessageStatus }): boolean {
  return row.status !== 'queued' && row.status !== 'streaming'
}

/** A reply that waits or runs, with its text as it grows. Clients may see what was announced of it. */
export class LiveReply implements Ticket {
  readonly id: string
  readonly userId: string
  readonly chatId: string
  readonly seq: number
  readonly text: GrowingText
  readonly thinking: GrowingText
  /** A line from the model counts as a token. */
  readonly tokens: TokenCount
  /** The tokens of the announced texts. */
  announcedTokens: number
  /** How much of each text the store has. */
  #stored: TextPiece['from']
  /** What the store was given since it had the texts whole. */
  #given = { pieces: 0, repeatedUnits: 0 }
  /** Whether its text waits for the flusher. */
  awaitsFlush = false
  /** Whether its end is being stored. */
  isEnding = false
  /** Where it waits; undefined once it runs. */
  position: QueuePosition | undefined
  /** Ends the run; its reason is an Interruption. */
  readonly #controller = new AbortController()
  readonly #watchers = new Set<() => void>()
  /** The last frame, which followers who are up to date share. */
  #lastFrame: MessageChunk | undefined
  /** The frames that begin a slice, which followers who are behind share. */
  readonly #frames = {
    text: new Map<number, MessageChunk>(),
    thinking: new Map<number, MessageChunk>(),
  }
  #isOver = false
  #isGivenUp = false
  readonly #resolveEnd: (row: MessageRow | undefined) => void
  /** The record as it ended; undefined when it was deleted, or another process took it over. */
  readonly end: Promise<MessageRow | undefined>

  /**
   * @param row the record as this process holds it.
   * @param text what it begins with.
   * @param begunIn its chat, when the reply was stored as one that has begun.
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
    this.tokens = { kept: 0, discarded: 0, ...row.tokens }
    this.announcedTokens = this.tokens.kept
    this.#stored = { content: text.content.length, thinking: text.thinking.length }
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

  /** A reply that was stored as one that has begun; @param chat as it then was. */
  static begun(row: MessageRow, chat: ChatRow): LiveReply {
    return new LiveReply(row, { content: '', thinking: '' }, chat)
  }

  get epoch(): number {
    return this.row.epoch
  }

  /** Whether the model has said nothing yet. */
  get isSilent(): boolean {
    return this.text.received === 0 && this.thinking.received === 0
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get interruption(): Interruption | undefined {
    return this.#controller.signal.reason
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** Whether this process has lost it or hands it over. */
  get isGivenUp(): boolean {
    return this.#isGivenUp
  }

  /** Ends the wait or the run; only the first reason counts. */
  interrupt(reason: Interruption): void {
    this.#isGivenUp ||= reason === 'lost' || reason === 'released'
    this.#controller.abort(reason)
  }

  /** The store says that another process has it or that it is gone: unless its end is being stored. */
  lose(): void {
    if (!this.#isOver && !this.isEnding) this.interrupt('lost')
  }

  waitAt(position: QueuePosition): void {
    this.position = position
    this.#wake()
  }

  /** Its turn has come; @param row the record as it then is. */
  begin(row: MessageRow): void {
    this.row = row
    this.position = undefined
    this.#wake()
  }

  append(content: string, thinking: string): void {
    if (content) this.text.append(content)
    if (thinking) this.thinking.append(thinking)
  }

  /** Whether text came since the last checkpoint. */
  get hasUnstored(): boolean {
    const { content, thinking } = this.#stored
    return this.text.received > content || this.thinking.received > thinking
  }

  /** Whether the next checkpoint is to be `whole`, given to `markWhole` when stored. */
  get isInPieces(): boolean {
    const { pieces, repeatedUnits } = this.#given
    return pieces >= most.pieces || repeatedUnits >= most.repeatedUnits
  }

  /** The text since the last checkpoint, given to `markStored` when stored. */
  unstored(): TextPiece {
    const piece = this.#from(this.#stored)
    this.#given.pieces++
    this.#given.repeatedUnits += unitsOf(piece)
    return piece
  }

  /** All that came, as a piece. */
  whole(): TextPiece {
    return this.#from({ content: 0, thinking: 0 })
  }

  #from(from: TextPiece['from']): TextPiece {
    return {
      from,
      content: wholePairs(this.text.from(from.content)),
      thinking: wholePairs(this.thinking.from(from.thinking)),
      tokens: this.tokens.kept,
    }
  }

  /** All that came, for the process that goes on with it. */
  get kept(): KeptText {
    const { text, thinking, tokens } = this
    return { content: text.whole, thinking: thinking.whole, tokens: { ...tokens } }
  }

  markStored(piece: TextPiece): void {
    const { from, content, thinking } = piece
    this.#stored = {
      content: from.content + content.length,
      thinking: from.thinking + thinking.length,
    }
    this.#given.repeatedUnits -= unitsOf(piece)
  }

  markWhole(whole: TextPiece): void {
    this.#given = { pieces: 0, repeatedUnits: unitsOf(whole) }
    this.markStored(whole)
  }

  /** Announces pending text in frames; thinking first, as a model thinks before it speaks. */
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
    this.announcedTokens = this.tokens.kept
    this.#wake()
  }

  /** The announced text from `offset` on as a frame, of one slice at most. */
  frameFrom(offset: number, thinking: boolean): MessageChunk {
    if (!thinking && this.#lastFrame?.offset === offset) return this.#lastFrame
    const frames = thinking ? this.#frames.thinking : this.#frames.text
    const delta = (thinking ? this.thinking : this.text).restOfSlice(offset)
    const known = frames.get(offset)
    if (known?.delta.length === delta.length) return known
    const frame: MessageChunk = {
      chatId: this.chatId,
      messageId: this.id,
      epoch: this.epoch,
      offset,
      delta,
      ...(thinking && { thinking: true as const }),
    }
    if (beginsSlice(offset)) frames.set(offset, frame)
    return frame
  }

  /** Settles `end`: with the record as it ended, or with nothing when it was lost. */
  finish(row: MessageRow | undefined): void {
    if (this.#isOver) return
    this.#isOver = true
    if (row) this.row = row
    this.#resolveEnd(row)
    this.#wake()
  }

  /** Resolves at the next change of its text, position or state, or when the signal is aborted. */
  changed(signal: AbortSignal): Promise<void> {
    if (this.#isOver || signal.aborted) return Promise.resolve()
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

const unitsOf = ({ content, thinking }: TextPiece) => content.length + thinking.length
