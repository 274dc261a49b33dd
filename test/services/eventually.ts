import { setTimeout as delay } from 'node:timers/promises'

/** Polls until `holds`; fails after `ms`, whatever becomes of `Date`. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  ms = 25_000,
): Promise<void> {
  const deadline = performance.now() + ms
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await delay(20)
  }
}
