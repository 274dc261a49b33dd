/**
 * A value that is fetched once for all who ask meanwhile, and served stale while it is fetched
 * again.
 * @param freshMs for how long it is served without a thought.
 * @param staleMs until when it is served while it is fetched again; older, who asks waits.
 */
export function createRevalidated<T>(fetch: () => Promise<T>, freshMs: number, staleMs: number) {
  let known: { value: T; at: number } | undefined
  let flight: Promise<T> | undefined

  async function load(): Promise<T> {
    const at = performance.now()
    try {
      const value = await fetch()
      known = { value, at }
      return value
    } finally {
      flight = undefined
    }
  }

  function refresh(): Promise<T> {
    flight ??= load()
    return flight
  }

  /** What can be served without waiting; it is fetched again where it is not fresh. */
  function current(): T | undefined {
    if (!known || ageMs() >= staleMs) return undefined
    if (ageMs() >= freshMs) {
      refresh().catch(() => {
        // What is known goes on being served until it is too old; who asks next tries again.
      })
    }
    return known.value
  }

  /** Rejects as `fetch` does, when there is nothing to serve. */
  async function get(): Promise<T> {
    return current() ?? refresh()
  }

  /** Since what is known was asked for; infinite when nothing is known. */
  function ageMs(): number {
    return known ? performance.now() - known.at : Number.POSITIVE_INFINITY
  }

  /** What was fetched last, however old. */
  const last = (): T | undefined => known?.value

  return { current, get, last, refresh, ageMs }
}
