/*
 * The proofs at any length: `npm run torture -- --kills 1000 --seed 7`. Ends with 0 when nothing was
 * wrong, with 1 at the first thing that was, leaving its evidence, and with 2 for a bad command line.
 */
import { parseArgs } from 'node:util'
import { disconnects } from './disconnects.js'
import { kills } from './kills.js'
import { modelFaults } from './model-faults.js'
import { races } from './races.js'
import { figuresLine, Trial } from './trial.js'

const programs = { kills, disconnects, races, faults: modelFaults }
/** How often each is done when the command line says nothing of it. */
const defaults = { kills: 50, disconnects: 2000, races: 500, faults: 500 }
type Name = keyof typeof programs

const names = Object.keys(programs) as Name[]
const help = `npm run torture -- [options]

${names.map((name) => `  ${`--${name} N`.padEnd(18)}by default ${defaults[name]}`).join('\n')}
  --seed S          repeats the random choices of a run
  --help

With one of the first given, the others are not done unless they are given too.
MONGODB_URI and REDIS_URL are handed to the servers.`

function refuse(why: string): never {
  console.error(`${why.replace(/\s+/g, ' ')} See --help.`)
  process.exit(2)
}

function commandLine() {
  const number = { type: 'string' } as const
  try {
    return parseArgs({
      options: {
        kills: number,
        disconnects: number,
        races: number,
        faults: number,
        seed: number,
        help: { type: 'boolean' },
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
  (name) => [name, wholeNumber(name, someGiven ? 0 : defaults[name])] as const,
)
const { MONGODB_URI, REDIS_URL } = process.env
const settings = { ...(MONGODB_URI && { MONGODB_URI }), ...(REDIS_URL && { REDIS_URL }) }

console.log(`seed ${seed}`)
try {
  for (const [name, count] of counts) {
    if (count === 0) continue
    const startedAt = Date.now()
    const report = (line: string) => console.log(`${name}: ${line}`)
    const figures = await Trial.run(programs[name], count, seed, settings, report)
    const seconds = Math.round((Date.now() - startedAt) / 1000)
    console.log(`${name}: nothing was wrong in ${seconds} s: ${figuresLine(figures)}`)
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
