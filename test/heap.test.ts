import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'

/**
 * Holds 40 MB of text and lets go of 400 MB, a megabyte after the other; says how many times as
 * large as at first its heap was.
 */
const program = `
  import { keepHeapSmall } from ${JSON.stringify(new URL('../src/heap.js', import.meta.url))}
  import { setTimeout as delay } from 'node:timers/promises'
  const [isKept] = process.argv.slice(1)
  if (isKept) keepHeapSmall()
  const held = Array.from({ length: 40 }, (_, n) => Buffer.alloc(1e6, 65 + n).toString('latin1'))
  const first = process.memoryUsage().heapUsed
  let most = first
  const passing = []
  for (let n = 0; n < 400; n++) {
    // What is held for a while leaves the young generation, as a reply's text does.
    passing.push(Buffer.alloc(1e6, 65).toString('latin1'))
    if (passing.length > 6) passing.shift()
    most = Math.max(most, process.memoryUsage().heapUsed)
    await delay(2)
  }
  console.log(held.length && most / first)
`

async function growth(...args: string[]): Promise<number> {
  const node = ['--input-type=module', '--eval', program, ...args]
  const { stdout } = await promisify(execFile)(process.execPath, node, { timeout: 60_000 })
  return Number(stdout)
}

t.test('what nobody holds any more gathers to no more than what is held', async (t) => {
  const kept = await growth('kept')
  const left = await growth()
  t.ok(kept > 1 && kept < 3, `the heap was ${kept.toFixed(2)} times as large at most`)
  t.ok(kept < left * 0.75, `where V8 decides by itself, ${left.toFixed(2)} times`)
})
