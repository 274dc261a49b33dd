interface Window {
  count: number
  endsAt: number
}

/** How much is forgotten at once, so that making room is rare. */
const forgottenPart = 0.1

/**
 * Counts events by key in fixed windows that begin with their first, at most `max` windows at once.
 * To make room, windows that are over go first, then those with the lowest counts: a flood of other
 * keys ends no lockout.
 */
export class Counters {
  readonly #windows = new Map<string, Window>()

  constructor(
    private readonly max: number,
    private readonly now: () => number,
  ) {}

  hit(key: string, windowMs: number, events: number): { count: number; resetMs: number } {
    const time = this.now()
    const known = this.#windows.get(key)
    const window = known && known.endsAt > time ? known : { count: 0, endsAt: time + windowMs }
    window.count += events
    if (window !== known && events > 0) {
      if (this.#windows.size >= this.max) this.#makeRoom(time)
      this.#windows.set(key, window)
    }
    return { count: window.count, resetMs: window.endsAt - time }
  }

  delete(key: string): void {
    this.#windows.delete(key)
  }

  #makeRoom(time: number): void {
    for (const [key, { endsAt }] of this.#windows) {
      if (endsAt <= time) this.#windows.delete(key)
    }
    const most = Math.floor(this.max * (1 - forgottenPart))
    if (this.#windows.size <= most) return
    // Of equal counts the oldest, since sorting keeps their order.
    const lowestFirst = [...this.#windows].sort(([, a], [, b]) => a.count - b.count)
    for (const [key] of lowestFirst.slice(0, this.#windows.size - most)) this.#windows.delete(key)
  }
}
