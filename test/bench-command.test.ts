import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { eventually } from './services/eventually.js'

const command = join(import.meta.dirname, '../../test/bench/dist/main.js')

/** What is used of test/bench/figure.ts, which is compiled on its own. */
interface FigureModule {
  row(measured: object): { reached: boolean | null; note?: string }
}

function start(...args: string[]) {
  return spawn(process.execPath, [command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
}

/** The processes that one has started, as Linux knows them. */
function childrenOf({ pid }: ChildProcess): number[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')
  return list.split(' ').filter(Boolean).map(Number)
}

if (!existsSync(command)) {
  t.test('the benchmark’s command', { skip: 'not built: npm run bench builds it' }, async () => {})
} else {
  t.test('what cannot be measured is said in a line, before anything starts', async (t) => {
    for (const [args, reason] of [
      [['--nope'], /^bench: Unknown option '--nope'/],
      [['--rounds', '4'], /^bench: --rounds wants a whole number from 5 to 99$/],
      [['--rounds', 'many'], /^bench: --rounds wants/],
      [['--only', 'nothing'], /^bench: --only nothing: there is no such figure; there are tokens-/],
      [['--smoke', '--write'], /^bench: --smoke measures nothing/],
      [
        ['--only', 'idle', '--write', '--rounds', '98'],
        /^bench: --only idle cannot be written beside figures of another/,
      ],
    ] as const) {
      const child = start(...args)
      const [[status], output, errors] = await Promise.all([
        once(child, 'close'),
        text(child.stdout),
        text(child.stderr),
      ])
      t.equal(status, 1, args.join(' '))
      t.match(errors.trim().split('\n')[0], reason)
      t.equal(output, '')
    }
  })

  t.test(
    'a difference below nothing reaches a goal of at most, and is noisy where rounds differ',
    async (t) => {
      const { row }: FigureModule = await import(join(dirname(command), 'figure.js'))
      const goal = { of: 'ours', atMost: 40 }
      const measured = { name: 'more CPU', unit: 'µs', goal }
      const below = row({ ...measured, ours: [-2, -1, 3] })
      t.equal(below.reached, true)
      t.equal(below.note, 'noisy')
      t.equal(row({ ...measured, ours: [41, 41, 41] }).reached, false)
    },
  )

  t.test('a run that is cut short leaves nothing running', async (t) => {
    const child = start('--smoke', '--only', 'idle')
    const errors: string[] = []
    const lines = createInterface({ input: child.stderr }).on('line', (line) => errors.push(line))
    await once(lines, 'line')
    await eventually('it has started servers', async () => childrenOf(child).length > 2)
    const started = childrenOf(child)
    child.kill('SIGINT')
    t.same(await once(child, 'close'), [1, null])
    t.match(errors.at(-1), 'bench: cut short by SIGINT')
    const isGone = (pid: number) => !existsSync(`/proc/${pid}`)
    await eventually('all have ended', async () => started.every(isGone))
  })
}
