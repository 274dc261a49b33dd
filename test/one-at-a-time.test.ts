import t from 'tap'
import { oneAtATime } from '../src/one-at-a-time.js'

t.test('works that share a name run one after the other, in the order they came', async (t) => {
  const run = oneAtATime('STORE_UNAVAILABLE')
  const said: string[] = []
  const work = (name: string) => async () => {
    said.push(`${name} begins`)
    await new Promise(setImmediate)
    said.push(`${name} ends`)
    return name
  }
  const works = [
    run(['x'], work('1')),
    run(['x', 'y'], work('2')),
    run(['y'], work('3')),
    run(['z'], work('4')),
  ]
  t.same(await Promise.all(works), ['1', '2', '3', '4'])
  const ofX = said.filter((line) => /^[12]/.test(line))
  t.same(ofX, ['1 begins', '1 ends', '2 begins', '2 ends'])
  t.ok(said.indexOf('4 begins') < said.indexOf('1 ends'), 'others do not wait')
})

t.test('one that fails lets the next begin; one that never ends is not waited for', async (t) => {
  // Waiting alone keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const run = oneAtATime('TOO_BUSY', 10)
  await t.rejects(
    run(['x'], () => Promise.reject(new Error('failed'))),
    { message: 'failed' },
  )
  t.equal(await run(['x'], async () => 1), 1)
  let end = () => {}
  const stuck = run(['x'], () => new Promise<void>((resolve) => (end = resolve)))
  await t.rejects(
    run(['x'], async () => 2),
    { code: 'TOO_BUSY' },
  )
  end()
  await stuck
  t.equal(await run(['x'], async () => 3), 3)
})
