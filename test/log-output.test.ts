import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import t, { type Test } from 'tap'

const file = new URL('../src/log-output.js', import.meta.url).href

/** A program that logs to a pipe, which is read once its lines are asked for. */
function logging(t: Test, program: string) {
  const source = `
    import { createHook } from 'node:async_hooks'
    import { once } from 'node:events'
    import { setTimeout as delay } from 'node:timers/promises'
    import { LogOutput } from ${JSON.stringify(file)}
    const output = new LogOutput()
    let writes = 0
    createHook({ init: (_id, type) => { if (type === 'FSREQCALLBACK') writes++ } }).enable()
    const asked = () => once(process.stdin, 'data')
    ${program}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['pipe', 'pipe', 'inherit', 'ipc'],
  }) as ChildProcessByStdio<Writable, Readable, null>
  t.teardown(() => child.kill('SIGKILL'))
  return {
    child,
    exited: once(child, 'exit'),
    message: () => once(child, 'message'),
    ask: () => child.stdin.write('on\n'),
    lines: () => createInterface({ input: child.stdout })[Symbol.asyncIterator](),
  }
}

t.test('a line is written although no other follows', async (t) => {
  const { lines } = logging(t, `output.write('alone\\n'); await asked()`)
  t.equal((await lines().next()).value, 'alone')
})

t.test('nothing is written while nothing is logged', async (t) => {
  const { lines, ask } = logging(
    t,
    `output.write('before\\n')
    await asked()
    const before = writes
    setTimeout(() => output.write((writes - before) + ' writes\\n'), 600)
    await asked()`,
  )
  const logged = lines()
  t.equal((await logged.next()).value, 'before')
  // The tick after the line finds that it was written.
  ask()
  t.equal((await logged.next()).value, '0 writes')
})

t.test('a line that follows while the reader is away is written when it is back', async (t) => {
  const long = 1_000_000
  const { lines, message } = logging(
    t,
    `output.write('x'.repeat(${long}) + '\\n')
    setImmediate(() => output.write('last\\n'))
    setTimeout(() => process.send('looked'), 500)
    await asked()`,
  )
  await message()
  const logged = lines()
  t.equal((await logged.next()).value.length, long)
  t.equal((await logged.next()).value, 'last')
})

t.test('the last lines are written before the process ends', async (t) => {
  const { lines, exited } = logging(t, `output.write('last\\n'); await output.end()`)
  t.equal((await lines().next()).value, 'last')
  t.strictSame(await exited, [0, null])
})

t.test('a reader that never reads does not keep the process', async (t) => {
  const { exited } = logging(t, `output.write('x'.repeat(1_000_000)); await output.end()`)
  t.strictSame(await exited, [null, 'SIGKILL'])
})

t.test('a reader that is gone does not keep the process', async (t) => {
  const { child, exited } = logging(
    t,
    `for (let n = 0; n < 5; n++) {
      output.write('nobody reads this\\n')
      await delay(120)
    }
    output.write('nor this\\n')
    await output.end()`,
  )
  child.stdout.destroy()
  t.strictSame(await exited, [0, null])
})

t.test('what is logged while a write is under way is written too before the end', async (t) => {
  const { lines, exited } = logging(
    t,
    `output.write('x'.repeat(10_000) + '\\n')
    output.write('last\\n')
    await output.end()
    process.exit()`,
  )
  const logged = lines()
  await logged.next()
  t.equal((await logged.next()).value, 'last')
  t.strictSame(await exited, [0, null])
})
