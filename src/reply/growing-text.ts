/** The longest frame of a reply's text or thinking, in UTF-16 units: 64 KiB hold any text of it. */
const sliceUnits = 16 * 1024

/**
 * One kind of a reply's text: what was announced, and what came since. It is kept in blocks, because
 * V8 copies the whole of a long growing string whenever a part of it is read.
 */
export class GrowingText {
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

/** Text without a last half of a surrogate pair, which no store keeps. */
export const wholePairs = (text: string) => (splitsPair(text.slice(-1)) ? text.slice(0, -1) : text)

/** Whether a slice may begin at `offset`; it begins a unit later where a pair would be split. */
export const beginsSlice = (offset: number) => offset % sliceUnits <= 1
