import { AppError, type ErrorCode } from './errors.js'
import { within } from './within.js'

/**
 * Runs tasks that share a name one at a time, in order of arrival.
 * @param late the code of the AppError that is thrown when a task's turn does not come in time.
 * @param maxWaitMs how long a task waits for its turn, in milliseconds.
 * @returns a function that runs a task while it holds all of `names`.
 */
export function oneAtATime(late: ErrorCode, maxWaitMs = 10_000) {
  const holders = new Map<string, Promise<true>>()

  return async <T>(names: readonly string[], task: () => Promise<T>): Promise<T> => {
    const deadline = performance.now() + maxWaitMs
    for (let holder = firstHolder(names); holder; holder = firstHolder(names)) {
      const isOver = await within(holder, Math.max(1, deadline - performance.now()))
      if (!isOver) throw new AppError(late)
    }
    let release = () => {}
    const held = new Promise<true>((resolve) => {
      release = () => resolve(true)
    })
    for (const name of names) holders.set(name, held)
    try {
      return await task()
    } finally {
      for (const name of names) holders.delete(name)
      release()
    }
  }

  function firstHolder(names: readonly string[]): Promise<true> | undefined {
    for (const name of names) {
      const holder = holders.get(name)
      if (holder) return holder
    }
    return undefined
  }
}
