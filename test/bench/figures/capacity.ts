import type { Bench } from '../bench.js'
import { type Figure, row, unmeasured } from '../figure.js'
import type { Quota } from '../quota.js'
import { interleave, openConversations, runTokens } from '../token-run.js'

const sides = ['ours', 'pipe', 'usual', 'bare'] as const
type Side = (typeof sides)[number]

const rate = 20
const share = 0.25
/** What a reader still takes for a flow, in milliseconds. */
const flowingP99 = 150
/** Numbers of streams that are tried, each an eighth more than the one before. */
const ladder = Array.from({ length: 26 }, (_, n) => Math.round(50 * 1.125 ** n))
const most = ladder.at(-1) ?? 0

/** Whether a side holds so many streams within its share of a core. */
async function holds(bench: Bench, side: Side, streams: number, quota: Quota): Promise<boolean> {
  // What beginning them takes is no part of it.
  const run = { streams, rate, windowMs: 3000, onRunning: () => quota.limit(share) }
  const { latency, isHeld, refused } = await runTokens(bench, side, run, () => quota.lift())
  return isHeld && refused === 0 && latency.p99 <= flowingP99
}

/** The most streams that a side holds; @param from where on the ladder to begin. */
async function capacity(bench: Bench, side: Side, from: number, quota: Quota): Promise<number> {
  if (bench.options.smoke) return (await holds(bench, side, 5, quota)) ? 5 : 0
  let step = from
  const holdsAt = (at: number) => holds(bench, side, ladder[at] ?? most, quota)
  if (await holdsAt(step)) {
    while (step + 1 < ladder.length && (await holdsAt(step + 1))) step++
  } else {
    do step--
    while (step >= 0 && !(await holdsAt(step)))
  }
  return step
}

export const capacityFigures: Figure[] = [
  {
    name: 'capacity',
    async measure(bench) {
      const name = `streams of ${rate} tokens a second held by a quarter of a core, p99 ≤ ${flowingP99} ms`
      const unit = 'streams'
      const quotas = new Map<Side, Quota>()
      try {
        for (const side of sides) {
          await openConversations(bench, side, bench.size(most, 10))
          const quota = bench.quota()
          quotas.set(side, quota)
          quota.add((await bench.server(side)).pid)
        }
        const steps = new Map<Side, number>()
        const results = await interleave(bench, 'capacity', sides, async (side) => {
          const quota = quotas.get(side)
          if (!quota) throw new Error(`${side} has no quota`)
          const step = await capacity(bench, side, steps.get(side) ?? 12, quota)
          steps.set(side, Math.max(step, 0))
          return ladder[step] ?? 0
        })
        const { ours, pipe, usual, bare } = results
        return [
          row({
            name: `${name}, against the pipe`,
            ...{ unit, ours, rival: pipe, goal: { of: 'ratio', atLeast: 1 } },
          }),
          row({
            name: `${name}, against the usual way`,
            ...{ unit, ours, rival: usual, goal: { of: 'ratio', atLeast: 1.5 } },
          }),
          row({ name: `${name}, against its bare packages`, unit, ours, rival: bare }),
        ]
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? error.code : undefined
        if (!['EACCES', 'EROFS', 'ENOENT', 'EPERM'].includes(String(code))) throw error
        return [unmeasured(name, unit, 'not measured: no control group can be made here')]
      } finally {
        await bench.stopServers()
        for (const quota of quotas.values()) quota.remove()
      }
    },
  },
]
