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
  keepHeapSmall()
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

t.test('what nobody holds any more gathers to no more than what is held', async (t) => {
  const node = ['--input-type=module', '--eval', program]
  const { stdout } = await promisify(execFile)(process.execPath, node, { timeout: 60_000 })
  const growth = Number(stdout)
  // Where V8 decides by itself it is four times.
  t.ok(growth > 1 && growth < 3, `the heap was ${growth.toFixed(2)} times as large at most`)
})
