import type { MessageChunk } from '../../schemas/messages.js'
import type { QueuePosition } from '../queue/fair-queue.js'
import type { ChatRow, MessageRow, TextPiece, TokenCount } from '../stores/store.js'
import type { KeptText } from './reply-state.js'

/** Why a reply's run is ended from outside. */
export type Interruption = 'stopped' | 'lost' | 'released' | 'overlong'

/** The longest frame of a reply's text or thinking, in UTF-16 units: 64 KiB hold any text of it. */
const sliceUnits = 16 * 1024

/**
 * After so many pieces, or so many UTF-16 units that may have been stored more than once, the store
 * is given the texts whole: a record of MongoDB's has 16 MB, of which the longest reply takes 12.
 */
const most = { pieces: 1000, repeatedUnits: 256 * 1024 }

/**
 * One kind of a reply's text: what was announced, and what came since. It is kept in blocks, since
 * reading any part of one long string that grows has V8 copy all of it.
 */
class GrowingText {
  /** Announced text; each block but the last is full. */
  readonly #blocks: string[] = []
  /** Of the announced text, in UTF-16 units. */
  length = 0
  #pending = ''

  constructor(text: string) {
    this.#announce(text)
  }

  get whole(): string {
    return this.from(0)
  }

  /** The length of all that was received. */
  get received(): number {
    return this.length + this.#pending.length
  }

  get hasPending(): boolean {
    return this.#pending !== ''
  }

  append(delta: string): void {
    this.#pending += delta
  }

  /** All that was received from `offset` on. */
  from(offset: number): string {
    return this.slice(offset) + this.#pending.slice(Math.max(0, offset - this.length))
  }

  /** Announced text from `offset` on. */
  slice(offset: number, end = this.length): string {
    const first = Math.floor(offset / sliceUnits)
    const start = first * sliceUnits
    const blocks = this.#blocks.slice(first, Math.ceil(end / sliceUnits))
    return blocks.join('').slice(offset - start, end - start)
  }

  /** The rest of the slice that `offset` is in. */
  restOfSlice(offset: number): string {
    const end = boundaryAfter(offset)
    return this.slice(offset, splitsPair(this.slice(end - 1, end)) ? end + 1 : end)
  }

  /** Announces one slice of what came since, and answers with it. */
  flush(): { offset: number; delta: string } {
    const offset = this.length
    const delta = sliceOf(this.#pending, 0)
    this.#pending = delta.length === this.#pending.length ? '' : this.#pending.slice(delta.length)
    this.#announce(delta)
    return { offset, delta }
  }

  #announce(text: string): void {
    for (let at = 0; at < text.length; ) {
      const last = this.#blocks.length - 1
      const block = this.length % sliceUnits === 0 ? '' : (this.#blocks[last] ?? '')
      const piece = text.slice(at, at + sliceUnits - block.length)
      this.#blocks[block === '' ? last + 1 : last] = block + piece
      this.length += piece.length
      at += piece.length
    }
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
  /** A line from the model is a token. */
  readonly tokens: TokenCount
  /** How many of them the announced texts have. */
  announcedTokens: number
  /** How much of each text the store has. */
  #stored: TextPiece['from']
  /** What the store was given since it had the texts whole. */
  #given = { pieces: 0, repeatedUnits: 0 }
  /** Whether its end is being stored: a checkpoint that misses it says nothing then. */
  isEnding = false
  /** Where it waits; undefined once it runs. */
  place: QueuePosition | undefined
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

  /** A reply whose record was just stored as that of one that has begun; @param chat as it is. */
  static begun(row: MessageRow, chat: ChatRow): LiveReply {
    return new LiveReply(row, { content: '', thinking: '' }, chat)
  }

  get epoch(): number {
    return this.row.epoch
  }

  /** Whether nothing has come of it yet. */
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

  waitAt(place: QueuePosition): void {
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
  }

  /** Whether text came since the last checkpoint. */
  get hasUnstored(): boolean {
    const { content, thinking } = this.#stored
    return this.text.received > content || this.thinking.received > thinking
  }

  /** Whether the next checkpoint is to be of the whole texts, given to `markWhole` when stored. */
  get isInPieces(): boolean {
    const { pieces, repeatedUnits } = this.#given
    return pieces >= most.pieces || repeatedUnits >= most.repeatedUnits
  }

  /** The text since the last checkpoint, to be given to `markStored` when the store has it. */
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

  /** All that came of it, for whoever goes on with it. */
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
    this.announcedTokens = this.tokens.kept
    this.#wake()
  }

  /** The frame of announced text that begins at `offset`, of one slice at most. */
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

const unitsOf = ({ content, thinking }: TextPiece) => content.length + thinking.length

/** The rest of the slice of `text` that `offset` is in. */
export const sliceOf = (text: string, offset: number) => text.slice(offset, sliceEnd(text, offset))

/** Slices end at the same places for everyone, and never inside a surrogate pair. */
function sliceEnd(text: string, offset: number): number {
  const end = boundaryAfter(offset)
  if (end >= text.length) return text.length
  return splitsPair(text.slice(end - 1, end)) ? end + 1 : end
}

const boundaryAfter = (offset: number) => (Math.floor(offset / sliceUnits) + 1) * sliceUnits

/** Whether text that ends with `lastUnit` ends inside a surrogate pair. */
const splitsPair = (lastUnit: string) => lastUnit >= '\ud800' && lastUnit <= '\udbff'

/** Half a surrogate pair waits for the other half: no store keeps it alone. */
const wholePairs = (text: string) => (splitsPair(text.slice(-1)) ? text.slice(0, -1) : text)

/** Whether a slice may begin at `offset`: a unit later where a pair would have been split. */
const beginsSlice = (offset: number) => offset % sliceUnits <= 1
