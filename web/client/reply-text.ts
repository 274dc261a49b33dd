import type { ActiveReply, Message, MessageChunk, MessageStart, MessageStatus } from './types.js'

/** What `ReplyText.chunk` did with a frame; after `gap`, rejoin from `rejoinPoint()`. */
export type ChunkOutcome = 'appended' | 'dropped' | 'gap'

/** Text with its own offsets: a reply's content, or its thinking. */
interface Track {
  epoch: number
  text: string
}

function place(track: Track, frame: MessageChunk): ChunkOutcome {
  if (frame.offset > track.text.length) return 'gap'
  if (frame.epoch > track.epoch) {
    track.epoch = frame.epoch
    track.text = track.text.slice(0, frame.offset) + frame.delta
    return 'appended'
  }
  const known = track.text.length - frame.offset
  if (frame.delta.length <= known) return 'dropped'
  track.text += frame.delta.slice(known)
  return 'appended'
}

/**
 * Assembles the text of one reply by the stream's rules. A pure state machine, without clock and
 * network, that works with any transport.
 *
 * Offsets are UTF-16 lengths, so frames may be merged, cut, repeated or lost. A frame that ends
 * within the text is dropped, one that begins after its end is a gap, and one of a newer epoch
 * (another server took the reply over) first cuts the text at its offset.
 */
export class ReplyText {
  readonly messageId: string
  status: MessageStatus = 'queued'
  /** The position in the queue while it waits; 1 is next. */
  position: number | undefined
  /** When it will begin, as the server estimates; ISO 8601. */
  estimatedStart: string | undefined
  /** The final record, once received. */
  record: Message | undefined
  readonly #content: Track = { epoch: 0, text: '' }
  readonly #thinking: Track = { epoch: 0, text: '' }
  /** The newest epoch whose frames are all here; 0 before the first. */
  #sureEpoch = 0

  constructor(messageId: string) {
    this.messageId = messageId
  }

  get text(): string {
    return this.#content.text
  }

  get thinking(): string {
    return this.#thinking.text
  }

  /** The newest epoch seen; 0 before the first. */
  get epoch(): number {
    return Math.max(this.#content.epoch, this.#thinking.epoch)
  }

  get ended(): boolean {
    return this.status !== 'queued' && this.status !== 'streaming'
  }

  /**
   * True after a frame of a newer epoch: earlier frames of that epoch may be lost, and the text that
   * they replaced may still be here. A rejoin settles it.
   */
  get unsure(): boolean {
    return this.epoch > this.#sureEpoch
  }

  /** Where to rejoin: the fields of `join-chat`, of `?epoch&offset` and of `Last-Event-ID`. */
  rejoinPoint(): { messageId: string; epoch: number; offset: number } {
    return {
      messageId: this.messageId,
      epoch: Math.max(this.#textEpoch(), 1),
      offset: this.text.length,
    }
  }

  start(start: MessageStart): void {
    if (this.ended || start.epoch < this.epoch) return
    this.status = start.status
    this.position = start.position
    this.estimatedStart = start.estimatedStart
  }

  chunk(frame: MessageChunk): ChunkOutcome {
    if (this.ended || frame.epoch < this.epoch) return 'dropped'
    const outcome = place(frame.thinking ? this.#thinking : this.#content, frame)
    if (outcome === 'appended') {
      this.status = 'streaming'
      this.position = this.estimatedStart = undefined
      // Before the first frame there is no text that a lost frame could have replaced.
      if (this.#sureEpoch === 0) this.#sureEpoch = frame.epoch
    }
    return outcome
  }

  /**
   * Applies the answer to a join: cuts the text at its offset and appends its text.
   * @returns false when it does not fit the text: rejoin from `rejoinPoint()`.
   */
  joined(answer: ActiveReply): boolean {
    if (this.ended) return true
    if (answer.offset > this.text.length || !this.#follows(answer.epoch, answer.offset)) {
      this.#forget()
      return false
    }
    this.#content.text = this.text.slice(0, answer.offset) + answer.text
    this.#thinking.text = answer.thinking ?? ''
    this.#content.epoch = this.#thinking.epoch = this.#sureEpoch = answer.epoch
    this.status = answer.status
    this.position = answer.position
    if (answer.position === undefined) this.estimatedStart = undefined
    return true
  }

  /**
   * Call it after each frame of a transport that loses none once it is connected (SSE): a newer epoch
   * was then seen from its beginning.
   * @returns false when epochs were skipped: rejoin from `rejoinPoint()`.
   */
  settle(): boolean {
    if (!this.unsure) return true
    if (this.#follows(this.epoch, this.text.length)) {
      this.#sureEpoch = this.epoch
      return true
    }
    this.#forget()
    return false
  }

  /** Applies the final record, whose content replaces the text. */
  message(message: Message): void {
    this.record = message
    this.status = message.status
    this.position = this.estimatedStart = undefined
    this.#content.text = message.content
    this.#thinking.text = message.thinking ?? ''
  }

  /** The epoch of the text; older than the newest while only thinking of the newest was received. */
  #textEpoch(): number {
    return Math.min(this.#sureEpoch, this.#content.epoch)
  }

  /**
   * The server knows only where the current epoch began. If a whole epoch was missed, text that it
   * replaced may stand before `offset`.
   */
  #follows(epoch: number, offset: number): boolean {
    return offset === 0 || epoch <= this.#textEpoch() + 1
  }

  #forget(): void {
    this.#sureEpoch = 0
    this.#content.epoch = this.#thinking.epoch = 0
    this.#content.text = this.#thinking.text = ''
  }
}
