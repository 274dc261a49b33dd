import { setTimeout as delay } from 'node:timers/promises'

/** How long a test waits for what must come, in milliseconds: a busy machine is no failure. */
export const patienceMs = 240_000

/** Polls until `holds`; fails after `patienceMs`, whatever becomes of `Date`. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + patienceMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`)
    await delay(20)
  }
}
