import type { ActiveReply } from '../schemas/events.js'
import type { Message, MessageChunk, MessageStart, MessageStatus } from '../schemas/messages.js'

/** What `ReplyText.chunk` did with a frame; after `gap` rejoin with `position()`. */
export type ChunkOutcome = 'appended' | 'dropped' | 'gap'

/** One run of characters with offsets of its own: a reply's text, or its thinking. */
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
 * The text of one reply, put together by the stream's rules: a pure state machine, which any
 * transport feeds and which needs no clock and no network.
 *
 * Offsets are UTF-16 lengths, so frames may be merged, cut, repeated or lost. A frame that ends
 * within the text is dropped, one that begins behind its end is a gap, and one of a newer epoch
 * (another server took the reply over) first cuts the text where it begins.
 */
export class ReplyText {
  readonly messageId: string
  status: MessageStatus = 'queued'
  /** The place in the queue, while it waits; 1 is next. */
  position: number | undefined
  /** The final record, once it is there. */
  record: Message | undefined
  readonly #content: Track = { epoch: 0, text: '' }
  readonly #thinking: Track = { epoch: 0, text: '' }
  /** The newest epoch known to be here from its beginning; 0 before the first. */
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

  /** The newest epoch heard of; 0 before the first. */
  get epoch(): number {
    return Math.max(this.#content.epoch, this.#thinking.epoch)
  }

  get ended(): boolean {
    return this.status !== 'queued' && this.status !== 'streaming'
  }

  /**
   * True after a frame of a newer epoch: the frames between that epoch's beginning and this one may
   * have been lost, and what they replaced may still stand here. A rejoin settles it.
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
  }

  chunk(frame: MessageChunk): ChunkOutcome {
    if (this.ended || frame.epoch < this.epoch) return 'dropped'
    const outcome = place(frame.thinking ? this.#thinking : this.#content, frame)
    if (outcome === 'appended') {
      this.status = 'streaming'
      this.position = undefined
      // The first frame of all begins at 0: nothing was there that it could have replaced.
      if (this.#sureEpoch === 0) this.#sureEpoch = frame.epoch
    }
    return outcome
  }

  /**
   * The server's answer to a join: cuts the text where the answer begins and appends it.
   * @returns false when it does not fit what is here: rejoin once more, from `rejoinPoint()`.
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
    return true
  }

  /**
   * To be called after a frame that came over a transport which loses nothing once it was asked for
   * (SSE): a newer epoch was then seen from its beginning.
   * @returns false when epochs were skipped: rejoin, from `rejoinPoint()`.
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

  /** The reply's final record: its content is the truth. */
  message(message: Message): void {
    this.record = message
    this.status = message.status
    this.position = undefined
    this.#content.text = message.content
    this.#thinking.text = message.thinking ?? ''
  }

  /** The epoch that the text is of: behind the newest while only that one's thinking was heard. */
  #textEpoch(): number {
    return Math.min(this.#sureEpoch, this.#content.epoch)
  }

  /**
   * The server knows only where the current epoch began. When one between was missed altogether,
   * what that one replaced may stand before `offset`.
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
