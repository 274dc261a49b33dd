import type { Cache } from '../cache/cache.js'
import { LearntNumbers } from './learnt-numbers.js'

/** Before a model has said anything of itself: few bytes a token, so that too much is never sent. */
const startingRatio = 3
/** What text can be: fewer bytes a token than this are a template's, more are a count of a part. */
const leastRatio = 1
const mostRatio = 6
/** A count this much smaller than what was estimated is not one of the whole prompt. */
const implausible = 2
/** What a template adds around each message, in tokens. */
const perMessage = 8

/**
 * How many tokens a text is to a model, learnt from the `prompt_eval_count` of what was sent to it.
 * The ratio falls at once to what was seen and rises slowly, so that it errs towards fewer
 * messages; it counts UTF-8 bytes, which vary less between scripts than characters do.
 */
export class TokenEstimate {
  readonly #bytesPerToken: LearntNumbers

  constructor(cache: Cache) {
    this.#bytesPerToken = new LearntNumbers(cache, 'bytes-per-token')
  }

  /** @param model its key, as a Window has it. */
  of(model: string, text: string): number {
    const ratio = this.#bytesPerToken.get(model) ?? startingRatio
    return Math.ceil(Buffer.byteLength(text) / ratio) + perMessage
  }

  /**
   * Learns from a prompt. A count of a part of it can only show that the ratio is lower still.
   * @param isWhole whether nothing says that Ollama cut the prompt.
   */
  learn(model: string, texts: readonly string[], promptTokens: number, isWhole = true): void {
    const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
    const content = promptTokens - perMessage * texts.length
    // A short prompt says more of the template than of the text.
    if (bytes < 200 || content < 20) return
    const seen = Math.max(bytes / content, leastRatio)
    const known = this.#bytesPerToken.get(model)
    const lastRatio = known ?? startingRatio
    // Ollama may have cut the prompt, or counted only what it had not cached.
    if (seen > Math.min(mostRatio, lastRatio * implausible)) return
    if (!isWhole && seen >= lastRatio) return
    const ratio = known === undefined || seen < known ? seen : known + (seen - known) * 0.1
    this.#bytesPerToken.set(model, ratio)
  }
}
