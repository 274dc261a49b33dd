import t from 'tap'
import { AdmissionThrottle } from '../../src/queue/admission-throttle.js'

const turn = () => new Promise(setImmediate)

/** Sends `count` callers in; @returns those that have passed, in their order. */
function sendIn(throttle: AdmissionThrottle, count: number, passed: number[] = []): number[] {
  for (let n = 0; n < count; n++) void throttle.pass().then(() => passed.push(n))
  return passed
}

t.test('who comes alone passes in the same turn, and so does the next', async (t) => {
  const throttle = new AdmissionThrottle()
  for (let n = 0; n < 3; n++) {
    const ended = turn().then(() => 'the turn ended')
    t.equal(await Promise.race([throttle.pass().then(() => 'passed'), ended]), 'passed')
    await ended
  }
})

t.test('many at once pass in slices, turn by turn, in the order they came', async (t) => {
  const throttle = new AdmissionThrottle()
  const passed = sendIn(throttle, 80)
  const counts: number[] = []
  for (let n = 0; n < 4; n++) {
    await turn()
    counts.push(passed.length)
  }
  t.same(counts, [64, 80, 80, 80], '32 before the first turn ends, 32 as it ends, and the rest')
  t.same(
    passed,
    Array.from({ length: 80 }, (_, n) => n),
  )
})

t.test('nobody overtakes those that wait', async (t) => {
  const throttle = new AdmissionThrottle()
  const passed = sendIn(throttle, 70)
  await turn()
  t.equal(passed.length, 64)
  void throttle.pass().then(() => passed.push(70))
  await turn()
  t.same(passed.slice(64), [64, 65, 66, 67, 68, 69, 70])
})

t.test('the more wait, the more pass', async (t) => {
  const throttle = new AdmissionThrottle()
  const passed = sendIn(throttle, 1032)
  await turn()
  t.equal(passed.length, 32 + 250)
  await turn()
  t.equal(passed.length, 32 + 250 + 188)
})
