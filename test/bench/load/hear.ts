import { nowUs } from '../clock.js'

/** What was heard since the last `reset`. Times are in microseconds. */
export class Heard {
  chars = 0
  frames = 0
  begun = 0
  ended = 0
  refused = 0
  /** From the emitter's sending of a reply's first token to its coming here. */
  first: number[] = []
  /** The same of every token that says when it was sent. */
  latencies: number[] = []
  /** From a message's sending to its reply's first token. */
  untilFirst: number[] = []
  /** Between texts of one reply. */
  gaps: number[] = []

  reset(): void {
    Object.assign(this, new Heard())
  }
}

/** Hears one conversation; `heard` is shared by all of a process. */
export class Ear {
  #sentAt = 0
  #lastAt = 0

  constructor(
    private readonly heard: Heard,
    private readonly onEnd: () => void,
  ) {}

  sending(): void {
    this.#sentAt = nowUs()
    this.#lastAt = 0
    this.heard.begun++
  }

  readonly text = (text: string): void => {
    const { heard } = this
    heard.frames++
    heard.chars += text.length
    const now = nowUs()
    const isFirst = this.#lastAt === 0
    if (isFirst) heard.untilFirst.push(now - this.#sentAt)
    else heard.gaps.push(now - this.#lastAt)
    this.#lastAt = now
    let at = text.indexOf('@')
    if (isFirst && at === 0) heard.first.push(now - stampAt(text, 0))
    for (; at !== -1; at = text.indexOf('@', at + 1)) heard.latencies.push(now - stampAt(text, at))
  }

  readonly ended = (isGood: boolean): void => {
    if (isGood) this.heard.ended++
    else this.heard.refused++
    this.onEnd()
  }
}

const stampAt = (text: string, at: number) => Number.parseInt(text.slice(at + 1, at + 20), 10)

/** A client's end of one conversation. */
export interface Conversation {
  /** Sends a message; its reply is heard by the ear. */
  send(content: string, options?: object): void
  /** Reads no more from its connection, until it is closed. */
  pause(): void
  close(): void
}

/** Where a conversation takes place. */
export interface Slot {
  url: string
  token: string
  chatId: string
  /** The server at which it is heard, if that is another. */
  hearAt?: string
}
