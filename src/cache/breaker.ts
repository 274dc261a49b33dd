import { inTime } from '../within.js'

interface BreakerOptions {
  /** The longest that an operation may take, in milliseconds. */
  timeoutMs: number
  /** The time between two probes, in milliseconds. */
  retryMs: number
  /** Resolves when the service answers. */
  probe: () => Promise<unknown>
  /** Whether an error is the service's own answer, so that the service is there. */
  isAnswer: (error: unknown) => boolean
  /** Called at each change. */
  onChange: (state: 'away' | 'back', cause?: unknown) => void
  /** Called with each error that is an answer. */
  onRefused: (cause: unknown) => void
}

/**
 * A circuit breaker: after a fault of a service, operations are skipped until a probe in the
 * background is answered.
 */
export class Breaker {
  readonly #options: BreakerOptions
  #away = false
  #retry: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: BreakerOptions) {
    this.#options = options
  }

  get isAway(): boolean {
    return this.#away
  }

  /** The operation's value, or undefined when the service is away, late or refuses. */
  async run<T>(operation: () => Promise<T>): Promise<T | undefined> {
    if (this.#away || this.#closed) return undefined
    try {
      return await inTime(operation(), this.#options.timeoutMs)
    } catch (error) {
      if (this.#options.isAnswer(error)) this.#options.onRefused(error)
      else this.#leave(error)
      return undefined
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
  }

  #leave(cause: unknown): void {
    if (this.#away || this.#closed) return
    this.#away = true
    this.#options.onChange('away', cause)
    this.#probeLater()
  }

  #probeLater(): void {
    if (this.#closed) return
    this.#retry = setTimeout(() => {
      inTime(this.#options.probe(), this.#options.timeoutMs).then(
        () => {
          this.#away = false
          if (!this.#closed) this.#options.onChange('back')
        },
        // Still away: not a change.
        () => this.#probeLater(),
      )
    }, this.#options.retryMs).unref()
  }
}
