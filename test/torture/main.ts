/*
 * The proofs at any length: `npm run torture -- --kills 1000 --seed 7`. Ends with 0 when nothing was
 * wrong, with 1 at the first thing that was, leaving its evidence, and with 2 for a bad command line.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { disconnects } from './disconnects.js'
import { kills } from './kills.js'
import { modelFaults } from './model-faults.js'
import { races } from './races.js'
import { rollingRestarts } from './rolling-restarts.js'
import { overOwnDatabase, overShakyServices } from './shaky-services.js'
import { terminations } from './terminations.js'
import { figuresLine, Trial } from './trial.js'

/** Each program, how often it is done when the command line says nothing of it, and over what. */
const programs = {
  kills: { program: kills, byDefault: 50, over: overShakyServices },
  disconnects: { program: disconnects, byDefault: 2000, over: overShakyServices },
  races: { program: races, byDefault: 500, over: overShakyServices },
  faults: { program: modelFaults, byDefault: 500, over: overOwnDatabase },
  terminations: { program: terminations, byDefault: 50, over: overOwnDatabase },
  restarts: { program: rollingRestarts, byDefault: 30, over: overOwnDatabase },
}
type Name = keyof typeof programs

const names = Object.keys(programs) as Name[]
const help = `npm run torture -- [options]

${names.map((name) => `  ${`--${name} N`.padEnd(18)}by default ${programs[name].byDefault}`).join('\n')}
  --services        over MongoDB and Redis, which fail at random moments meanwhile (not under
                    faults, terminations and restarts); they are started, unless MONGODB_URI and REDIS_URL name them
  --seed S          repeats the random choices of a run
  --help

With one of the first given, the others are not done unless they are given too.
Restarts are of three servers as one system, and need --services.`

function refuse(why: string): never {
  console.error(`${why.replace(/\s+/g, ' ')} See --help.`)
  process.exit(2)
}

function commandLine() {
  const number = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  try {
    return parseArgs({
      options: {
        kills: number,
        disconnects: number,
        races: number,
        faults: number,
        terminations: number,
        restarts: number,
        services: flag,
        seed: number,
        help: flag,
      },
    }).values
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

const values = commandLine()
if (values.help) {
  console.log(help)
  process.exit()
}

function wholeNumber(name: 'seed' | Name, otherwise: number): number {
  const text = values[name]
  if (text === undefined) return otherwise
  if (!/^\d{1,9}$/.test(text)) refuse(`--${name} wants a whole number, not ${text}.`)
  return Number(text)
}

const seed = wholeNumber('seed', Math.floor(Math.random() * 1e9))
const someGiven = names.some((name) => values[name] !== undefined)
const counts = names.map(
  (name) => [name, wholeNumber(name, someGiven ? 0 : programs[name].byDefault)] as const,
)
if (values.restarts !== undefined && !values.services) refuse('--restarts needs --services.')

/** This command once more, with the real services started around it. */
async function runWithServices(): Promise<never> {
  const services = join(import.meta.dirname, '../../../test/services/services.sh')
  const child = spawn(services, ['run', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  const [status] = await once(child, 'exit')
  process.exit(status ?? 1)
}

async function run(name: Name, count: number): Promise<void> {
  const { program, over } = programs[name]
  const { MONGODB_URI = '', REDIS_URL = '' } = process.env
  const services = { MONGODB_URI, REDIS_URL }
  const startedAt = Date.now()
  const report = (line: string) => console.log(`${name}: ${line}`)
  const figures = values.services
    ? await Trial.run(over(program, services), count, seed, {}, report)
    : await Trial.run(program, count, seed, {}, report)
  const seconds = Math.round((Date.now() - startedAt) / 1000)
  console.log(`${name}: nothing was wrong in ${seconds} s: ${figuresLine(figures)}`)
}

const { MONGODB_URI, REDIS_URL } = process.env
if (values.services && !(MONGODB_URI && REDIS_URL)) await runWithServices()
console.log(`seed ${seed}`)
try {
  for (const [name, count] of counts) {
    const isPossible = name !== 'restarts' || values.services
    if (count > 0 && isPossible) await run(name, count)
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
