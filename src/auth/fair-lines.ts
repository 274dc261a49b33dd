import { AppError } from '../errors.js'

interface Waiting {
  start: () => void
  refuse: (error: AppError) => void
}

interface Limits {
  /** How many works run at once. */
  atOnce: number
  /** How many wait in all lines together. */
  maxWaiting: number
}

/**
 * Runs few works at once and serves the lines in turn, one work each. When the most that may wait do,
 * the newest of the longest line gives way to a work of a shorter one.
 */
export class FairLines {
  /** In the order in which they are served; none is empty. */
  readonly #lines = new Map<string, Waiting[]>()
  #waiting = 0
  #running = 0

  constructor(private readonly limits: Limits) {}

  /** @throws AppError TOO_BUSY when too many wait, or this work gave way to another line. */
  async run<T>(line: string, work: () => Promise<T>): Promise<T> {
    if (this.#running < this.limits.atOnce) this.#running += 1
    else await this.#wait(line)
    try {
      return await work()
    } finally {
      this.#startNext()
    }
  }

  #wait(line: string): Promise<void> {
    const mine = this.#lines.get(line) ?? []
    if (this.#waiting >= this.limits.maxWaiting) this.#makeRoom(mine.length)
    return new Promise((start, refuse) => {
      mine.push({ start, refuse })
      this.#lines.set(line, mine)
      this.#waiting += 1
    })
  }

  /** Starts the oldest work of the next line, after a work has ended. */
  #startNext(): void {
    const next = this.#lines.entries().next().value
    if (!next) {
      this.#running -= 1
      return
    }
    const [line, waiting] = next
    const first = waiting.shift()
    this.#waiting -= 1
    this.#lines.delete(line)
    if (waiting.length > 0) this.#lines.set(line, waiting)
    first?.start()
  }

  #makeRoom(length: number): void {
    let longest: [line: string, waiting: Waiting[]] | undefined
    for (const entry of this.#lines) {
      if (!longest || entry[1].length > longest[1].length) longest = entry
    }
    if (!longest || longest[1].length <= length + 1) throw tooBusy()
    const [line, waiting] = longest
    const newest = waiting.pop()
    this.#waiting -= 1
    if (waiting.length === 0) this.#lines.delete(line)
    newest?.refuse(tooBusy())
  }
}

const tooBusy = () => new AppError('TOO_BUSY', { retryAfter: 5 })
