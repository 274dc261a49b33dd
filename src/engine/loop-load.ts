import { performance } from 'node:perf_hooks'

/** How long utilization is measured before the wait is adjusted, in milliseconds. */
const windowMs = 100
/** Shares of its time that the loop is busy: below, text waits less; above, it waits longer. */
const busy = { less: 0.8, more: 0.95 }
/** How the wait grows while the loop is too busy, and its bound, in milliseconds. */
const wait = { factor: 1.3, stepMs: 10, longestMs: 100, shortestMs: 1 }

/** How long text has to wait so that the event loop keeps up; nothing while the loop has time. */
export class LoopLoad {
  #waitMs = 0
  #measuredAt = performance.now()
  #last = performance.eventLoopUtilization()

  waitMs(): number {
    if (performance.now() - this.#measuredAt >= windowMs) this.#adjust()
    return this.#waitMs
  }

  #adjust(): void {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, this.#last)
    this.#last = now
    this.#measuredAt = performance.now()
    this.#waitMs = nextWait(this.#waitMs, utilization)
  }
}

/** The wait after `ms`, when the loop was busy for the share `utilization` of its time. */
export function nextWait(ms: number, utilization: number): number {
  if (utilization > busy.more) return Math.min(ms * wait.factor + wait.stepMs, wait.longestMs)
  if (utilization >= busy.less) return ms
  const shorter = (ms * utilization) / busy.less
  return shorter < wait.shortestMs ? 0 : shorter
}
