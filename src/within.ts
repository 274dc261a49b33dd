import { setTimeout as delay } from 'node:timers/promises'

/** The promise's value, or undefined when it takes longer than `ms` milliseconds. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const done = new AbortController()
  const { signal } = done
  try {
    // Aborted: the value was there first.
    const late = delay(ms, undefined, { signal, ref: false }).catch(() => undefined)
    return await Promise.race([promise, late])
  } finally {
    done.abort()
  }
}

/** The promise's value; rejects with the signal's reason as soon as that is aborted. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort)
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
