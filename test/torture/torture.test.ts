import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { disconnects } from './disconnects.js'
import { kills } from './kills.js'
import { modelFaults } from './model-faults.js'
import { scenarios } from './race-scenarios.js'
import { races } from './races.js'
import { overShakyServices } from './shaky-services.js'
import { terminations } from './terminations.js'
import { figuresLine, Trial } from './trial.js'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
t.comment(`SEED=${seed}`)
const { MONGODB_URI, REDIS_URL } = process.env
const settings = { ...(MONGODB_URI && { MONGODB_URI }), ...(REDIS_URL && { REDIS_URL }) }

// Short runs of what `npm run torture` runs long; each throws at the first thing that is wrong.
for (const [program, count] of [
  [kills, 3],
  [disconnects, 200],
  [races, 3 * scenarios.length],
  [modelFaults, 25],
  [terminations, 6],
] as const) {
  t.test(`${program.name}: ${count} of them, and nothing is wrong`, async (t) => {
    const figures = await Trial.run(program, count, seed, settings)
    t.comment(figuresLine(figures))
    t.ok(figures.complete, 'replies came to their end')
  })
}

if (!MONGODB_URI || !REDIS_URL) {
  t.test('failing services', { skip: 'MONGODB_URI or REDIS_URL is not set' }, async () => {})
} else {
  for (const [program, count] of [
    [kills, 3],
    [disconnects, 200],
    [races, 3 * scenarios.length],
  ] as const) {
    t.test(`${program.name}: ${count} of them while MongoDB and Redis fail`, async (t) => {
      const shaken = overShakyServices(program, { MONGODB_URI, REDIS_URL })
      const figures = await Trial.run(shaken, count, seed)
      t.comment(figuresLine(figures))
      t.ok(figures.complete, 'replies came to their end')
    })
  }
}

t.test(
  'the command line: help, and one line with status 2 for what it does not know',
  async (t) => {
    const run = (...args: string[]) =>
      promisify(execFile)(process.execPath, [join(import.meta.dirname, 'main.js'), ...args])
    const { stdout } = await run('--help')
    for (const name of [
      'kills',
      'disconnects',
      'races',
      'faults',
      'terminations',
      'restarts',
      'seed',
    ]) {
      t.match(stdout, `--${name} `)
    }
    t.match(stdout, '--services ')
    for (const wrong of [
      ['--nope'],
      ['kills'],
      ['--kills'],
      ['--kills', 'many'],
      ['--seed', '-1'],
      ['--restarts', '3'],
    ]) {
      await t.rejects(run(...wrong), { code: 2, stdout: '', stderr: /^[^\n]+\n$/ }, wrong.join(' '))
    }
  },
)
