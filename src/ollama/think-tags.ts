const opening = '<think>'
const closing = '</think>'
/** Blank text before the opening tag is held no longer than this, in UTF-16 units. */
const longestBlank = 200

interface Parted {
  content: string
  thinking: string
}

/**
 * Parts `<think>…</think>` at the beginning of a reply's content from what is said, for models whose
 * thinking Ollama does not separate. The tags may come in pieces.
 */
export class ThinkTags {
  #state: 'before' | 'thinking' | 'after' | 'text'
  /** What may turn out to be a tag. */
  #held = ''
  #hasThought = false

  /** @param isBegun whether the reply goes on from a text, so that no thinking follows. */
  constructor(isBegun: boolean) {
    this.#state = isBegun ? 'text' : 'before'
  }

  part(content: string): Parted {
    if (this.#state === 'text') return { content, thinking: '' }
    let rest = this.#held + content
    let thinking = ''
    this.#held = ''
    if (this.#state === 'before') {
      const text = rest.trimStart()
      if (text.startsWith(opening)) {
        this.#state = 'thinking'
        rest = text.slice(opening.length)
      } else if (opening.startsWith(text) && rest.length <= longestBlank) {
        this.#held = rest
        return { content: '', thinking }
      } else this.#state = 'text'
    }
    if (this.#state === 'thinking') {
      if (!this.#hasThought) rest = rest.trimStart()
      const end = rest.indexOf(closing)
      const until = end === -1 ? rest.length - tagBegunAtEnd(rest) : end
      thinking = rest.slice(0, until)
      this.#hasThought ||= thinking !== ''
      if (end === -1) {
        this.#held = rest.slice(until)
        return { content: '', thinking }
      }
      this.#state = 'after'
      rest = rest.slice(end + closing.length)
    }
    if (this.#state === 'after') {
      rest = rest.trimStart()
      if (rest !== '') this.#state = 'text'
    }
    return { content: rest, thinking }
  }

  /** The reply is over: what is held was no tag. */
  end(): Parted {
    const held = this.#held
    this.#held = ''
    const isThinking = this.#state === 'thinking'
    return isThinking ? { content: '', thinking: held } : { content: held, thinking: '' }
  }
}

/** How many units at the end of `text` may be the beginning of the closing tag. */
function tagBegunAtEnd(text: string): number {
  for (let units = Math.min(text.length, closing.length - 1); units > 0; units--) {
    if (closing.startsWith(text.slice(-units))) return units
  }
  return 0
}
