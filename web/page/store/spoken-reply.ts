/** Where a sentence, or a line that is none, has ended. */
const sentenceEnd = /[.!?…](?=["'”’)\]]*\s)["'”’)\]]*|[。！？]|\n/g
const marks = /[*_#>`~|]+/g

/** Cuts a growing reply into whole sentences, without the marks of Markdown. */
export class SpokenReply {
  #spoken: number

  /** @param from where to begin: what was there before is not read out. */
  constructor(from = 0) {
    this.#spoken = from
  }

  /** What has become whole since the last call. */
  next(text: string, hasEnded: boolean): string {
    let end = this.#spoken
    if (hasEnded) end = text.length
    else {
      for (const match of text.slice(this.#spoken).matchAll(sentenceEnd)) {
        end = this.#spoken + match.index + match[0].length
      }
    }
    const whole = text.slice(this.#spoken, end)
    // A takeover may have cut the text.
    this.#spoken = Math.min(end, text.length)
    return whole.replace(marks, ' ').replace(/\s+/g, ' ').trim()
  }
}
