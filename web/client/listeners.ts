/** Typed events; `on` returns what stops listening. */
export class Listeners<Events extends object> {
  readonly #of = new Map<keyof Events, Set<(payload: never) => void>>()

  on<E extends keyof Events>(event: E, listener: (payload: Events[E]) => void): () => void {
    const listeners = this.#of.get(event) ?? new Set()
    this.#of.set(event, listeners)
    // The same function may listen twice.
    const own = (payload: Events[E]) => listener(payload)
    listeners.add(own)
    return () => listeners.delete(own)
  }

  tell<E extends keyof Events>(event: E, payload: Events[E]): void {
    for (const listener of this.#of.get(event) ?? []) {
      ;(listener as (payload: Events[E]) => void)(payload)
    }
  }
}
