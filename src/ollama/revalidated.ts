import { LRUCache } from 'lru-cache'
import { ageOf, type Dated } from '../cache/read-through.js'

/**
 * One value that is fetched once for all who ask meanwhile. When it is `freshMs` old it is served
 * while it is fetched again; when it is `staleMs` old, who asks waits.
 * @param fetch is told how old, in milliseconds, what it gives may be, and what it gave last.
 */
export function createRevalidated<T>(
  fetch: (maxAgeMs: number, last: T | undefined) => Promise<Dated<T>>,
  freshMs: number,
  staleMs: number,
) {
  const values = new LRUCache<'value', Dated<T>, number>({
    max: 1,
    noDeleteOnFetchRejection: true,
    fetchMethod: (_key, last, { context: maxAgeMs }) => fetch(maxAgeMs, last?.value),
  })

  const known = () => values.peek('value')
  /** Infinite when nothing is known. */
  const ageMs = () => ageOf(known() ?? { value: undefined, at: Number.NEGATIVE_INFINITY })

  async function ask(context: number, forceRefresh: boolean, allowStale: boolean): Promise<T> {
    return (await values.forceFetch('value', { context, forceRefresh, allowStale })).value
  }

  return {
    ageMs,
    /** The value that was fetched last, however old. */
    last: (): T | undefined => known()?.value,
    /** Rejects as `fetch` does, when there is nothing to serve. */
    get: () => ask(known() ? freshMs : staleMs, ageMs() >= freshMs, ageMs() < staleMs),
    refresh: (maxAgeMs = freshMs) => ask(maxAgeMs, true, false),
  }
}
