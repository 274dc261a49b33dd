import type { ActiveReply } from '../../../schemas/events.js'
import type { Message, MessageChunk } from '../../../schemas/messages.js'

export const chatId = 'c'.repeat(24)
export const messageId = 'a'.repeat(24)

/** Random numbers from a seed (mulberry32). */
export function randomFrom(seed: number) {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  return {
    chance: (probability: number) => next() < probability,
    /** A whole number from 0 to `max`, both included. */
    upTo: (max: number) => Math.floor(next() * (max + 1)),
  }
}

export type Random = ReturnType<typeof randomFrom>

const letters = ['a', 'b', 'é', '漢', '😀', ' ', '\n', '🏳️‍🌈']

/** A place in the text that is not inside a surrogate pair. */
export function wholeAt(text: string, place: number): number {
  return /[\uD800-\uDBFF]/.test(text.charAt(place - 1)) ? place - 1 : place
}

/** One reply as a server has it, with takeovers; answers joins by the design's rule. */
export class ModelReply {
  epoch = 1
  epochStart = 0
  text = ''
  thinking = ''
  /** The texts of each epoch as it was when the next began. */
  readonly past: { text: string; thinking: string }[] = [{ text: '', thinking: '' }]

  constructor(private readonly random: Random) {}

  /** Generates a little; the frame that tells of it. */
  generate(): MessageChunk {
    const thinking = this.random.chance(0.3)
    let delta = ''
    for (let count = this.random.upTo(4); count >= 0; count -= 1) {
      delta += letters[this.random.upTo(letters.length - 1)]
    }
    const offset = (thinking ? this.thinking : this.text).length
    if (thinking) this.thinking += delta
    else this.text += delta
    const frame = { chatId, messageId, epoch: this.epoch, offset, delta }
    return thinking ? { ...frame, thinking } : frame
  }

  /** Another server goes on from what was kept, which may be nothing. */
  takeOver(): void {
    this.past[this.epoch] = { text: this.text, thinking: this.thinking }
    this.epoch += 1
    this.epochStart = this.random.chance(0.2)
      ? 0
      : wholeAt(this.text, this.random.upTo(this.text.length))
    this.text = this.text.slice(0, this.epochStart)
    this.thinking = this.thinking.slice(
      0,
      wholeAt(this.thinking, this.random.upTo(this.thinking.length)),
    )
  }

  /** The same text in other pieces: any slice of what this epoch has. */
  frameAnywhere(): MessageChunk {
    const from = wholeAt(this.text, this.random.upTo(this.text.length))
    const to = wholeAt(this.text, from + this.random.upTo(this.text.length - from))
    const delta = this.text.slice(from, Math.max(from, to))
    return { chatId, messageId, epoch: this.epoch, offset: from, delta }
  }

  join({ epoch, offset }: { epoch?: number; offset?: number }): ActiveReply {
    const known = epoch === undefined || epoch === this.epoch
    const most = known ? this.text.length : Math.min(this.epochStart, this.text.length)
    const from = wholeAt(this.text, Math.min(offset ?? 0, most))
    return {
      messageId,
      epoch: this.epoch,
      status: 'streaming',
      offset: from,
      text: this.text.slice(from),
      ...(this.thinking && { thinking: this.thinking }),
    }
  }

  /** What was the text, and the thinking, of an epoch. */
  at(epoch: number) {
    return epoch === this.epoch ? this : (this.past[epoch] ?? { text: '', thinking: '' })
  }

  message(): Message {
    return {
      id: messageId,
      chatId,
      seq: 2,
      role: 'assistant',
      content: this.text,
      ...(this.thinking && { thinking: this.thinking }),
      status: 'complete',
      createdAt: new Date(0).toISOString(),
    }
  }
}
