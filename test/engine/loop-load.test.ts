import t from 'tap'
import { nextWait } from '../../src/engine/loop-load.js'

const after = (ms: number, utilizations: number[]) =>
  utilizations.reduce((wait, utilization) => nextWait(wait, utilization), ms)

t.test('text does not wait while the loop has time', async (t) => {
  t.equal(after(0, [0, 0.1, 0.5, 0.79, 0.85]), 0)
})

t.test('text waits longer as long as the loop is too busy, at most 100 ms', async (t) => {
  const once = after(0, [1])
  t.ok(once > 0)
  t.ok(after(0, [1, 1]) > once)
  t.equal(after(0, new Array(100).fill(1)), 100)
})

t.test('text waits as long as before while the loop is busy but keeps up', async (t) => {
  t.equal(after(40, [0.85, 0.9]), 40)
})

t.test('text waits less, and then no more, when the loop has time again', async (t) => {
  const less = after(100, [0.6])
  t.ok(less > 0 && less < 100)
  t.equal(after(100, new Array(100).fill(0.6)), 0)
  t.equal(after(100, [0]), 0, 'an idle loop at once')
})
