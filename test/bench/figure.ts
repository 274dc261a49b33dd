import type { Bench } from './bench.js'
import { median } from './statistics.js'

/** One line of the table. Numbers are medians; null is what was not measured. */
export interface Row {
  name: string
  unit: string
  ours: number | null
  rival: number | null
  /** Ours to the rival's, the median of the rounds' ratios. */
  ratio: number | null
  /** The least and the greatest of the rounds: of the ratio, or of ours where there is no rival. */
  min: number | null
  max: number | null
  goal: string | null
  reached: boolean | null
  /** What a reader has to know: that it was noisy, or not measured. */
  note?: string
}

/** Something measured, or a family of it that is measured together. */
export interface Figure {
  name: string
  measure(bench: Bench): Promise<Row[]>
}

export interface Goal {
  /** `more`: what ours has beyond the rival's. */
  of: 'ratio' | 'ours' | 'more'
  atMost?: number
  atLeast?: number
}

interface Measured {
  name: string
  unit: string
  ours: readonly number[]
  /** As many as ours: the two of a round are compared. */
  rival?: readonly number[]
  goal?: Goal | undefined
  note?: string | undefined
}

/** Rounds that lie farther apart, as a share of their median, are called noisy. */
const quietSpread = 0.3

export function row({ name, unit, ours, rival, goal, note }: Measured): Row {
  const ratios = rival?.map((value, round) => (ours[round] ?? Number.NaN) / value)
  const spread = ratios ?? ours
  const [min, max] = [Math.min(...spread), Math.max(...spread)]
  const isNoisy = (max - min) / Math.abs(median(spread)) > quietSpread
  const notes = [note, isNoisy && 'noisy'].filter(Boolean).join('; ')
  const ratio = ratios ? median(ratios) : null
  const judged = {
    ratio,
    ours: median(ours),
    more: rival ? median(ours) - median(rival) : null,
  }
  return {
    name,
    unit,
    ours: known(median(ours)),
    rival: rival ? known(median(rival)) : null,
    ratio: known(ratio),
    min: known(min),
    max: known(max),
    goal: goal ? textOf(goal, unit) : null,
    reached: goal ? isReached(goal, judged[goal.of]) : null,
    ...(notes && { note: notes }),
  }
}

/** What could not be measured here, and why. */
export const unmeasured = (name: string, unit: string, note: string): Row => ({
  ...{ name, unit, ours: null, rival: null, ratio: null, min: null, max: null },
  ...{ goal: null, reached: null, note },
})

/** JSON knows no NaN. */
const known = (value: number | null) => (Number.isFinite(value) ? value : null)

function textOf({ of, atMost, atLeast }: Goal, unit: string): string {
  const bound = atMost === undefined ? `≥ ${atLeast}` : `≤ ${atMost}`
  return { ratio: `${bound} ×`, ours: `${bound} ${unit}`, more: `${bound} ${unit} more` }[of]
}

function isReached({ atMost, atLeast }: Goal, value: number | null): boolean | null {
  if (value === null || !Number.isFinite(value)) return null
  return (
    value <= (atMost ?? Number.POSITIVE_INFINITY) && value >= (atLeast ?? Number.NEGATIVE_INFINITY)
  )
}
