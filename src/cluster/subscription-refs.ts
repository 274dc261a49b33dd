/** Subscriptions that are shared: opened for the first listener, closed after the last. */
export class SubscriptionRefs {
  readonly #opened = new Map<string, { listeners: number; close: Promise<() => Promise<void>> }>()

  constructor(
    private readonly open: (key: string) => Promise<() => Promise<void>>,
    private readonly onClosed: (key: string) => void = () => {},
  ) {}

  isOpen(key: string): boolean {
    return this.#opened.has(key)
  }

  /** @returns the way to leave, once the subscription is open. */
  async enter(key: string): Promise<() => void> {
    const entry = this.#opened.get(key) ?? { listeners: 0, close: this.open(key) }
    this.#opened.set(key, entry)
    entry.listeners += 1
    let isIn = true
    const leave = () => {
      if (!isIn) return
      isIn = false
      entry.listeners -= 1
      if (entry.listeners > 0) return
      this.#opened.delete(key)
      this.onClosed(key)
      void entry.close.then((close) => close())
    }
    await entry.close
    return leave
  }
}
