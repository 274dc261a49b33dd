const firstMs = 250
const longestMs = 8000

/** How long to wait before the next try, in milliseconds: doubles up to a bound, with jitter. */
export function backoffMs(failures: number): number {
  return Math.min(firstMs * 2 ** failures, longestMs) * (0.75 + Math.random() / 4)
}

/** Waits for `ms` milliseconds or until the signal aborts; never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done)
    if (signal?.aborted) done()
  })
}
