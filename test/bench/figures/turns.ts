import { setTimeout as delay } from 'node:timers/promises'
import type { Bench } from '../bench.js'
import { type Figure, row, unmeasured } from '../figure.js'
import { median } from '../statistics.js'
import {
  compareTokens,
  finish,
  interleave,
  notesOn,
  openConversations,
  type TokenSide,
} from '../token-run.js'

const all = ['ours', 'pipe', 'usual'] as const

/** What comes before a token: beginning a reply, and all that a turn costs. */
export const turnFigures: Figure[] = [
  {
    name: 'first-token',
    async measure(bench) {
      // A hundred replies begin each second while the rest run.
      const run = { streams: bench.size(500, 20), rate: 20, tokens: bench.size(100, 5) }
      const results = await compareTokens(bench, 'first token at 500×20', all, run)
      const of = (side: TokenSide & keyof typeof results, share: 'p50' | 'p99') =>
        results[side].map(({ first }) => first[share])
      const note = notesOn(results)
      const name = (share: string, rival: string) =>
        `first token added at 500×20, ${share}, against ${rival}`
      const bounds = { p50: 1, p99: 15 }
      return (['p50', 'p99'] as const).flatMap((share) => [
        row({
          name: name(share, 'the pipe'),
          ...{ unit: 'ms', ours: of('ours', share), rival: of('pipe', share), note },
          goal: { of: 'ours', atMost: bounds[share] },
        }),
        row({
          name: name(share, 'the usual way'),
          ...{ unit: 'ms', ours: of('ours', share), rival: of('usual', share), note },
        }),
      ])
    },
  },
  {
    name: 'turns',
    async measure(bench) {
      const run = {
        ...{ streams: bench.size(50, 10), rate: 20, tokens: bench.size(200, 5) },
        windowMs: 8000,
      }
      const results = await compareTokens(bench, 'whole turns at 50×20', [...all, 'bare'], run)
      const of = (side: keyof typeof results) => results[side].map(({ cpuUs }) => cpuUs)
      const [unit, note] = ['µs', notesOn(results)]
      const name = 'CPU per token with all that a turn costs, 50×20'
      return [
        row({
          name: `${name}, against the pipe`,
          ...{ unit, ours: of('ours'), rival: of('pipe'), note },
          goal: { of: 'ratio', atMost: 1.75 },
        }),
        row({
          name: `${name}, against the usual way`,
          ...{ unit, ours: of('ours'), rival: of('usual'), note },
        }),
        row({
          name: `${name}, against its bare packages`,
          ...{ unit, ours: of('ours'), rival: of('bare'), note },
        }),
      ]
    },
  },
  {
    name: 'burst',
    async measure(bench) {
      const results = await interleave(bench, '50 sent at once', all, async (side, round) => {
        await openOwnChats(bench, side, round)
        for (let n = bench.size(unwatched, 0); n > 0; n--) await burst(bench, side)
        const bursts = []
        for (let n = bench.size(watched, 1); n > 0; n--) bursts.push(await burst(bench, side))
        return median(bursts)
      })
      const name = 'request to first token, 50 sent at once, p50'
      const { ours, pipe, usual } = results
      return [
        row({
          name: `${name}, against the pipe`,
          ...{ unit: 'ms', ours, rival: pipe, goal: { of: 'ratio', atMost: 3 } },
        }),
        row({ name: `${name}, against the usual way`, unit: 'ms', ours, rival: usual }),
      ]
    },
  },
  {
    name: 'redis',
    async measure(bench) {
      const [name, unit] = ['more CPU per token with Redis, 100×50', 'µs']
      if (!process.env.REDIS_URL) return [unmeasured(name, unit, 'not measured: no REDIS_URL')]
      const run = { streams: bench.size(100, 10), rate: 50 }
      const results = await compareTokens(bench, 'with Redis', ['ours', 'redis'], run)
      const ours = results.redis.map(
        ({ cpuUs }, round) => cpuUs - (results.ours[round]?.cpuUs ?? Number.NaN),
      )
      const goal = { of: 'ours', atMost: 40 } as const
      return [row({ name, unit, ours, goal, note: notesOn(results) })]
    },
  },
]

/** Bursts of a round: a single one is noise, and the first find code that has yet to be compiled. */
const [unwatched, watched] = [5, 5]

/**
 * A round has chats of its own: what was said in those before is not sent along, which the pipe
 * would not have to carry.
 */
async function openOwnChats(bench: Bench, side: TokenSide, round: number): Promise<void> {
  const atOnce = bench.size(50, 10)
  const { accounts } = await bench.seed()
  const groups = Math.floor(accounts.length / atOnce)
  await openConversations(bench, side, atOnce, 1, ((round - 1) % groups) * atOnce)
}

/** Milliseconds from a message's sending to its reply's first token, when all send at once. */
async function burst(bench: Bench, side: TokenSide): Promise<number> {
  const tokens = bench.size(10, 5)
  await bench.load.reset()
  await bench.load.say(side, { rate: 20, tokens, spreadMs: 0 })
  // Whatever was sent has its first token by then, or is an outlier of the spread.
  await delay(bench.size(500, 200))
  await finish(bench, side)
  return (await bench.load.heard()).untilFirst.p50
}
