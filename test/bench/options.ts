import { resolve } from 'node:path'
import { parseArgs } from 'node:util'

export interface Options {
  json: boolean
  write: boolean
  smoke: boolean
  only: string | undefined
  rounds: number
  profile: string | undefined
}

export const usage = `npm run bench -- [options]
  --only NAME   only the figures whose name begins with NAME
  --rounds N    how often each side is measured, 5 to 99 (5)
  --json        one JSON object on standard output in place of the table
  --write       writes test/bench/RESULTS.md too; with --only, those figures in it, if the rest is like them
  --smoke       runs everything for a moment: shows that it works, and measures nothing
  --profile DIR writes a CPU profile of the product's server for each time it was started`

/** @throws Error that says in a line what is wrong. */
export function readOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      smoke: { type: 'boolean', default: false },
      only: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      profile: { type: 'string' },
    },
  })
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 5 || rounds > 99) {
    throw new Error('--rounds wants a whole number from 5 to 99')
  }
  if (values.smoke && values.write) throw new Error('--smoke measures nothing to be written')
  const profile = values.profile === undefined ? undefined : resolve(values.profile)
  return { ...values, rounds: values.smoke ? 1 : rounds, only: values.only, profile }
}
