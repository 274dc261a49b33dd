import type { Bench } from '../bench.js'
import { type Figure, row } from '../figure.js'
import { interleave, openConversations, runTokens, type TokenSide } from '../token-run.js'

const rate = 100
const steps = [10, 50, 75, 100, 150, 200, 250, 300, 400, 500]
/** Below this a p99 is noise, in milliseconds: its doubling says nothing. */
const quietP99 = 5
/** What a reader still takes for a flow: a p99 that every side is held to, however it begins. */
const flowingP99 = 250
/** A token that the emitter sends so late, in milliseconds, shows that the load is at its end. */
const lateMs = 100

/**
 * The most tokens a second before the p99 of their latency doubles, and while it is that of a flow.
 * @returns also whether the load gave out before the side did.
 */
async function capacity(bench: Bench, side: TokenSide) {
  let doubling = 0
  let flowing = 0
  let bound = Number.POSITIVE_INFINITY
  let isDoubled = false
  for (const streams of bench.options.smoke ? [2, 4] : steps) {
    await bench.emitter.counts()
    const run = { streams, rate, windowMs: 2000 }
    const { latency, isHeld, refused, tokensPerSecond } = await runTokens(bench, side, run)
    const isLoadLate = (await bench.emitter.counts()).lateMs > lateMs
    if (bound === Number.POSITIVE_INFINITY) bound = 2 * Math.max(latency.p99, quietP99)
    if (!isHeld || refused > 0 || latency.p99 > flowingP99) {
      return { doubling, flowing, isLoad: isLoadLate }
    }
    isDoubled ||= latency.p99 > bound
    if (!isDoubled) doubling = tokensPerSecond
    flowing = tokensPerSecond
  }
  return { doubling, flowing, isLoad: true }
}

export const capacityFigures: Figure[] = [
  {
    name: 'capacity',
    async measure(bench) {
      const sides = ['ours', 'pipe', 'usual'] as const
      for (const side of sides) await openConversations(bench, side, bench.size(500, 10))
      const results = await interleave(bench, 'capacity', sides, (side) => capacity(bench, side))
      const limited = sides.filter((side) => results[side].some(({ isLoad }) => isLoad))
      const note = limited.length > 0 ? `the load gave out first: ${limited.join(', ')}` : undefined
      const unit = 'tokens/s'
      return (['doubling', 'flowing'] as const).flatMap((limit) => {
        const of = (side: (typeof sides)[number]) => results[side].map((result) => result[limit])
        const until =
          limit === 'doubling' ? 'before their p99 doubles' : `at a p99 of ${flowingP99} ms`
        const name = `most tokens a second ${until}`
        const ours = of('ours')
        return [
          row({ name: `${name}, against the pipe`, unit, ours, rival: of('pipe'), note }),
          row({ name: `${name}, against the usual way`, unit, ours, rival: of('usual'), note }),
        ]
      })
    },
  },
]
