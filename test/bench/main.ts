import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Bench } from './bench.js'
import type { Row } from './figure.js'
import { figures } from './figures/all.js'
import { type Options, readOptions, usage } from './options.js'
import { Processes } from './processes.js'
import { headOf, markdownOf, tableOf, writtenHeadOf } from './report.js'
import { assertMeasurable, describeMachine } from './system.js'

/** Cores that others may use without a word beside the figure. */
const foreignCoresLeft = 0.25

const results = join(import.meta.dirname, '../RESULTS.md')

/** The progress line: rewritten in a terminal, else a line for each figure. */
function progressLine() {
  const { stderr } = process
  let figure = ''
  return {
    figure(name: string) {
      figure = name
      if (!stderr.isTTY) stderr.write(`${name} …\n`)
    },
    step(text: string) {
      if (stderr.isTTY) stderr.write(`\r\x1b[K${figure}: ${text}`)
    },
    clear() {
      if (stderr.isTTY) stderr.write('\r\x1b[K')
    },
  }
}

async function measure(bench: Bench, only: string, onFigure: (name: string) => void) {
  const chosen = figures.filter(({ name }) => name.startsWith(only))
  const rows: Row[] = []
  for (const figure of chosen) {
    onFigure(figure.name)
    try {
      const measured = await figure.measure(bench)
      const foreign = bench.takeForeignCores()
      for (const row of measured) {
        if (foreign > foreignCoresLeft) {
          const busy = `others kept ${foreign.toFixed(1)} cores busy`
          row.note = row.note ? `${row.note}; ${busy}` : busy
        }
        rows.push(row)
      }
    } finally {
      // A moment's figures share their servers, as most of the time goes into starting them.
      if (!bench.options.smoke) await bench.stopServers()
    }
  }
  return rows
}

/**
 * What is written of the figures that are not measured now.
 * @throws Error when it was measured otherwise, so that it cannot stand beside what is.
 */
function keptResults(head: string, only: string): string {
  if (!only || !existsSync(results)) return ''
  const written = readFileSync(results, 'utf8')
  if (written.includes(head)) return written
  throw new Error(
    `--only ${only} cannot be written beside figures of another day, machine or number of rounds: ` +
      'write all of them, or leave out --write',
  )
}

async function run(options: Options): Promise<void> {
  const only = options.only ?? ''
  if (!figures.some(({ name }) => name.startsWith(only))) {
    const names = figures.map(({ name }) => name).join(', ')
    throw new Error(`--only ${only}: there is no such figure; there are ${names}`)
  }
  assertMeasurable()
  const machine = describeMachine()
  const head = writtenHeadOf(machine, options)
  const kept = options.write ? keptResults(head, only) : ''
  const processes = new Processes()
  const line = progressLine()
  process.once('exit', () => processes.close())
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      process.stderr.write(`\nbench: cut short by ${signal}\n`)
      process.exit(1)
    })
  }
  if (!options.json) process.stdout.write(`${headOf(machine, options)}\n\n`)
  const rows = await measure(new Bench(processes, options, line.step), only, line.figure)
  line.clear()
  if (options.json) process.stdout.write(`${JSON.stringify({ machine, figures: rows })}\n`)
  else process.stdout.write(`${tableOf(rows)}\n`)
  if (options.write) writeFileSync(results, markdownOf(head, rows, kept))
}

try {
  await run(readOptions(process.argv.slice(2)))
  process.exit(0)
} catch (error) {
  const reason = error instanceof Error ? error.message : String(error)
  process.stderr.write(`\nbench: ${reason}\n`)
  if (error instanceof TypeError || /Unknown option/.test(reason))
    process.stderr.write(`${usage}\n`)
  process.exit(1)
}
