import { setTimeout as delay } from 'node:timers/promises'
import { unlessAborted } from './within.js'

interface Pauses {
  first: number
  longest: number
}

/** Pauses between tries, in milliseconds: each is twice as long as the one before, up to the longest. */
export class Backoff {
  #ms: number

  constructor(private readonly pauses: Pauses) {
    this.#ms = pauses.first
  }

  next(): number {
    const ms = this.#ms
    this.#ms = Math.min(ms * 2, this.pauses.longest)
    return ms
  }

  reset(): void {
    this.#ms = this.pauses.first
  }
}

interface RetryOptions {
  pauses: Pauses
  /** Whether to try again after this error. */
  mayRetry: (error: unknown) => boolean
  /** Ends the pause under way, and `retry` with it. */
  signal?: AbortSignal
}

/**
 * Tries until it succeeds.
 * @param work given how often it was tried before.
 * @throws what `work` throws once `mayRetry` says no, or the signal's reason.
 */
export async function retry<T>(
  work: (tries: number) => Promise<T>,
  { pauses, mayRetry, signal }: RetryOptions,
): Promise<T> {
  const backoff = new Backoff(pauses)
  for (let tries = 0; ; tries += 1) {
    try {
      return await work(tries)
    } catch (error) {
      if (!mayRetry(error)) throw error
      const pause = delay(backoff.next(), undefined, { ref: false })
      await (signal ? unlessAborted(pause, signal) : pause)
    }
  }
}
