declare module 'elizabot' {
  /** Keeps what it chose and what it may come back to, from one `transform` to the next. */
  export default class ElizaBot {
    /** @param noRandom takes each keyword's answers in their order. */
    constructor(noRandom?: boolean)
    /** Its time grows with the fourth power of a sentence's length. */
    transform(text: string): string
    /** Whether the last text was `bye` or its like. */
    quit: boolean
    /** What it says to `bye` and its like; by itself one at random. */
    getFinal(): string
  }
}
