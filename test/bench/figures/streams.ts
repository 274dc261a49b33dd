import type { Bench } from '../bench.js'
import { type Figure, type Goal, type Row, row } from '../figure.js'
import { compareTokens, notesOn, type TokenResult, type TokenRun } from '../token-run.js'

const sides = ['ours', 'pipe', 'usual', 'bare'] as const
type Results = Record<(typeof sides)[number], TokenResult[]>

const cpuUs = (result: TokenResult) => result.cpuUs

interface Goals {
  /** CPU, as a multiple of the rival's. */
  cpu: number
  cpuOfUsual?: number
  p99: Goal
}

/** CPU and latency of each token in one window, with everything on: accounts, rooms, log, checkpoints. */
const streams = (label: string, real: TokenRun, smoke: TokenRun, goals?: Goals): Figure => ({
  name: `tokens-${label.replace('×', 'x').replaceAll(' ', '-')}`,
  async measure(bench: Bench): Promise<Row[]> {
    const run = bench.options.smoke ? smoke : real
    const results: Results = await compareTokens(bench, label, sides, run)
    const note = notesOn(results)
    const rows = (
      what: string,
      unit: string,
      value: (result: TokenResult) => number,
      goal?: Goal,
      goalOfUsual?: Goal,
    ) => [
      row({
        name: `${label}: ${what}, against the pipe`,
        ...{ unit, ours: results.ours.map(value), rival: results.pipe.map(value), goal, note },
      }),
      row({
        name: `${label}: ${what}, against the usual way`,
        ...{ unit, ours: results.ours.map(value), rival: results.usual.map(value) },
        ...{ goal: goalOfUsual, note },
      }),
    ]
    const ratio = (atMost?: number) => (atMost ? ({ of: 'ratio', atMost } as const) : undefined)
    return [
      ...rows('CPU a token', 'µs', cpuUs, ratio(goals?.cpu), ratio(goals?.cpuOfUsual)),
      row({
        name: `${label}: CPU a token, against its bare packages`,
        ...{ unit: 'µs', ours: results.ours.map(cpuUs), rival: results.bare.map(cpuUs), note },
      }),
      ...rows('token latency p50', 'ms', ({ latency }) => latency.p50),
      ...rows('token latency p99', 'ms', ({ latency }) => latency.p99, goals?.p99),
    ]
  },
})

const nearPipe: Goal = { of: 'more', atMost: 5 }
const atMost = (ms: number): Goal => ({ of: 'ours', atMost: ms })
// Few streams have few tokens: they are counted for longer, each with its latency.
const few = { rate: 50, stampEvery: 1 }

export const streamFigures: Figure[] = [
  streams(
    '1×50',
    { ...few, streams: 1, windowMs: 12_000 },
    { streams: 1, rate: 50 },
    {
      cpu: 2,
      p99: nearPipe,
    },
  ),
  streams(
    '4×50',
    { ...few, streams: 4, windowMs: 8000 },
    { streams: 4, rate: 50 },
    {
      cpu: 1.5,
      p99: nearPipe,
    },
  ),
  streams('20×50', { ...few, streams: 20 }, { streams: 5, rate: 50 }, { cpu: 1.5, p99: nearPipe }),
  streams(
    '100×50',
    { streams: 100, rate: 50 },
    { streams: 10, rate: 50 },
    {
      cpu: 1.75,
      cpuOfUsual: 1,
      p99: atMost(10),
    },
  ),
  streams(
    '500×20',
    { streams: 500, rate: 20 },
    { streams: 20, rate: 20 },
    {
      cpu: 1.35,
      cpuOfUsual: 0.8,
      p99: atMost(25),
    },
  ),
  // A tenth of the streams, as more than 10,000 frames a second on two cores measure the load.
  streams(
    '10×50 to ten listeners',
    { streams: 10, rate: 50, listeners: 10 },
    { streams: 2, rate: 50, listeners: 10 },
  ),
]
