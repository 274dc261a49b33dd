import { setTimeout as delay } from 'node:timers/promises'

/** The promise's value, or undefined when it takes longer than `ms`. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const timer = new AbortController()
  const timeout = delay(ms, undefined, { signal: timer.signal }).catch(() => undefined)
  try {
    return await Promise.race([promise, timeout])
  } finally {
    timer.abort()
  }
}
