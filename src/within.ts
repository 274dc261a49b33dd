/** What `inTime` rejects with. */
export class LateError extends Error {
  override name = 'LateError'
}

/**
 * The promise's value; rejects with LateError after `ms` milliseconds. An answer that came while this
 * process was busy is not late, though timers run before it is read.
 */
export async function inTime<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    const fail = () => reject(new LateError(`no answer within ${ms} ms`))
    timer = setTimeout(() => setImmediate(fail), ms).unref()
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The promise's value, or undefined after `ms` milliseconds. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  try {
    return await inTime(promise, ms)
  } catch (error) {
    if (error instanceof LateError) return undefined
    throw error
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
