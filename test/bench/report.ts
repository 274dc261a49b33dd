import type { Row } from './figure.js'
import type { Options } from './options.js'
import type { Machine } from './system.js'

export function headOf(machine: Machine, { rounds, smoke }: Options): string {
  const { cpu, cores, memoryGb, kernel, node } = machine
  return [
    `${cpu}, ${cores} cores, ${memoryGb} GB; Linux ${kernel}; Node ${node}`,
    smoke
      ? 'A moment of everything, to show that it works: its figures mean nothing.'
      : `Medians of ${rounds} rounds, sides interleaved; the spread is of the rounds' ratios, or of ours.`,
  ].join('\n')
}

const headings = ['figure', 'unit', 'ours', 'rival', 'ratio', 'spread', 'goal', 'reached', '']

function cellsOf(row: Row): string[] {
  const { min, max, reached } = row
  return [
    row.name,
    row.unit,
    shown(row.ours),
    shown(row.rival),
    shown(row.ratio),
    min === null || max === null ? '' : `${shown(min)}–${shown(max)}`,
    row.goal ?? '',
    reached === null ? '' : reached ? 'yes' : 'NO',
    row.note ?? '',
  ]
}

/** Three digits that count. */
function shown(value: number | null): string {
  if (value === null) return ''
  return Math.abs(value) >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)))
}

export function tableOf(rows: readonly Row[]): string {
  const lines = [headings, ...rows.map(cellsOf)]
  const widths = headings.map((_, n) => Math.max(...lines.map((line) => line[n]?.length ?? 0)))
  return lines
    .map((line) =>
      line
        .map((cell, n) => cell.padEnd(widths[n] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** What stands over written results: figures below one head were measured in the same way. */
export function writtenHeadOf(machine: Machine, options: Options): string {
  const date = new Date().toISOString().slice(0, 10)
  return `Measured ${date} by \`npm run bench -- --write\`. ${headOf(machine, options).replace('\n', '. ')}`
}

/**
 * The results as they are written down.
 * @param kept what was written under the same head: figures that were not measured again stay.
 */
export function markdownOf(head: string, rows: readonly Row[], kept: string): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const measured = new Map(rows.map((row) => [row.name, line(cellsOf(row))]))
  const before = kept.split('\n').filter((text) => /^\| [^-]/.test(text))
  const known = new Map(before.slice(1).map((text) => [text.split(' | ')[0]?.slice(2) ?? '', text]))
  const lines = new Map([...known, ...measured])
  return [
    '# Results',
    '',
    head,
    '',
    line(headings),
    line(headings.map(() => '---')),
    ...lines.values(),
    '',
  ].join('\n')
}
