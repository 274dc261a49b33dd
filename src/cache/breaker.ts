interface BreakerOptions {
  /** How long one operation may take, in milliseconds. */
  timeoutMs: number
  /** Between two tries whether the service is back, in milliseconds. */
  retryMs: number
  /** Resolves when the service answers. */
  probe: () => Promise<unknown>
  /** Whether an error is the service's own answer, which proves that it is there. */
  isAnswer: (error: unknown) => boolean
  /** Hears once of each change. */
  onChange: (state: 'away' | 'back', cause?: unknown) => void
  /** Hears of each error that is an answer. */
  onRefused: (cause: unknown) => void
}

/**
 * A circuit breaker: after the first fault of a service its operations are not even tried, and
 * cost nothing, until a probe in the background finds it answering.
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

  /** What `operation` resolves with, or undefined when the service is away or fails. */
  async run<T>(operation: () => Promise<T>): Promise<T | undefined> {
    if (this.#away || this.#closed) return undefined
    try {
      return await within(this.#options.timeoutMs, operation())
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
      within(this.#options.timeoutMs, this.#options.probe()).then(
        () => {
          this.#away = false
          if (!this.#closed) this.#options.onChange('back')
        },
        // Still away, which was told already.
        () => this.#probeLater(),
      )
    }, this.#options.retryMs).unref()
  }
}

/**
 * Settles as `operation` does, or rejects after `ms`. An answer that came while this process was busy
 * is not late: timers run before what was received is read.
 */
export async function within<T>(ms: number, operation: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    const fail = () => reject(new Error(`no answer within ${ms} ms`))
    timer = setTimeout(() => setImmediate(fail), ms)
  })
  try {
    return await Promise.race([operation, late])
  } finally {
    clearTimeout(timer)
  }
}
