import { AppError, type ErrorCode } from './errors.js'
import { within } from './within.js'

/**
 * Runs works that share a name one after the other, in the order they came; each waits for those
 * that hold any of its names. As many wait as there are requests open.
 * @param late what those before it wait for, which is to blame when a work's turn does not come.
 * @param maxWaitMs how long a work waits for its turn, in milliseconds.
 * @returns what the work does; it throws AppError `late` when its turn does not come.
 */
export function oneAtATime(late: ErrorCode, maxWaitMs = 10_000) {
  const holders = new Map<string, Promise<true>>()

  return async <T>(names: readonly string[], work: () => Promise<T>): Promise<T> => {
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
      return await work()
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
