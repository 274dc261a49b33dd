import { Session } from 'node:inspector/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'

/**
 * Gives back what starting needed and nothing needs again, 35 MB: most of it is the young generation,
 * which V8 keeps as large as loading the code made it. Only this way of collecting shrinks it, and
 * it grows again with the load.
 */
export async function freeStartGarbage(): Promise<void> {
  const session = new Session()
  session.connect()
  await session.post('HeapProfiler.collectGarbage')
  // V8 still uses the session in the turn in which it answers.
  await nextTurn()
  session.disconnect()
}
