import t from 'tap'
import { Breaker } from '../../src/cache/breaker.js'
import { eventually } from '../services/eventually.js'
import { never } from '../services/ollama-stand-in.js'

const answered = new Error('the service says no')

/** A breaker whose service answers when `isThere`, and what it told. */
function start(t: { teardown(end: () => void): unknown }) {
  const service = { isThere: true, probes: 0 }
  const told: string[] = []
  const breaker = new Breaker({
    timeoutMs: 50,
    retryMs: 1,
    probe: async () => {
      service.probes++
      if (!service.isThere) throw new Error('away')
    },
    isAnswer: (error) => error === answered,
    onChange: (state) => told.push(state),
    onRefused: () => told.push('refused'),
  })
  // The breaker's own timers keep no process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => {
    clearInterval(alive)
    breaker.close()
  })
  let calls = 0
  return {
    service,
    breaker,
    told,
    calls: () => calls,
    run: <T>(operation: () => Promise<T>) =>
      breaker.run(() => {
        calls++
        return operation()
      }),
  }
}

const fails = async () => {
  throw new Error('cut')
}

t.test('an operation’s value is passed on', async (t) => {
  const { run, told } = start(t)
  t.equal(await run(async () => 'value'), 'value')
  t.same(told, [])
})

t.test('after a fault nothing is asked of the service until it answers a probe', async (t) => {
  const { run, breaker, service, told, calls } = start(t)
  service.isThere = false
  t.equal(await run(fails), undefined)
  t.ok(breaker.isAway)
  await eventually('it is probed again and again', () => service.probes > 3)
  for (let n = 0; n < 20; n++) t.equal(await run(async () => 'value'), undefined)
  t.equal(calls(), 1)
  t.same(told, ['away'], 'once')
  service.isThere = true
  await eventually('it is back', () => !breaker.isAway)
  t.equal(await run(async () => 'value'), 'value')
  t.same(told, ['away', 'back'])
})

t.test('an operation that is never answered is a fault', async (t) => {
  const { run, breaker, service } = start(t)
  service.isThere = false
  t.equal(await run(() => never), undefined)
  t.ok(breaker.isAway)
})

t.test('operations that fail together are one fault', async (t) => {
  const { run, service, told, calls } = start(t)
  service.isThere = false
  t.same(await Promise.all([run(fails), run(fails), run(() => never)]), Array(3).fill(undefined))
  t.equal(calls(), 3)
  t.same(told, ['away'])
})

t.test('a refusal is an answer: the service is there', async (t) => {
  const { run, breaker, told } = start(t)
  const refuse = async () => {
    throw answered
  }
  t.equal(await run(refuse), undefined)
  t.notOk(breaker.isAway)
  t.same(told, ['refused'])
})

t.test('once closed it asks and tells nothing', async (t) => {
  const { run, breaker, told, calls } = start(t)
  const late = run(async () => {
    breaker.close()
    throw new Error('cut')
  })
  t.equal(await late, undefined)
  t.equal(await run(async () => 'value'), undefined)
  t.equal(calls(), 1)
  t.same(told, [])
})
