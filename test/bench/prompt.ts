/** What the emitter shall answer, told to it in the message that it answers. */
export interface Prompt {
  /** Tokens a second. */
  rate: number
  tokens: number
  /** A token's length, in bytes; 5 unless told. */
  bytes?: number
  /** How many tokens from one that is the time to the next; 10 unless told. */
  stampEvery?: number
  /** Sent along, so that a message has a length of its own. */
  padding?: string
}

export const writePrompt = ({ rate, tokens, bytes = 5, stampEvery = 10, padding = '' }: Prompt) =>
  `rate=${rate} tokens=${tokens} bytes=${bytes} stamps=${stampEvery} ${padding}`.trim()

/** @throws Error when a text is no prompt of the benchmark's. */
export function readPrompt(text: string): Required<Omit<Prompt, 'padding'>> {
  const match = /^rate=(\d+) tokens=(\d+) bytes=(\d+) stamps=(\d+)/.exec(text)
  if (!match) throw new Error(`not a prompt of the benchmark: ${text.slice(0, 80)}`)
  const [rate = 1, tokens = 1, bytes = 5, stampEvery = 10] = match.slice(1).map(Number)
  return { rate, tokens, bytes, stampEvery }
}
