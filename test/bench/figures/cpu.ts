import type { Bench } from '../bench.js'
import { type Figure, type Row, row } from '../figure.js'
import { compareTokens, notesOn, type TokenRun } from '../token-run.js'

const sides = ['ours', 'pipe', 'usual'] as const

/** CPU for each token, with everything on: accounts, rooms, log, checkpoints, metrics. */
const cpu = (name: string, label: string, real: TokenRun, smoke: TokenRun): Figure => ({
  name,
  async measure(bench: Bench): Promise<Row[]> {
    const run = bench.options.smoke ? smoke : real
    const results = await compareTokens(bench, label, sides, run)
    const of = (side: (typeof sides)[number]) => results[side].map((result) => result.cpuUs)
    const [unit, note] = ['µs', notesOn(results)]
    return [
      row({
        name: `CPU per token, ${label}, against the pipe`,
        ...{ unit, ours: of('ours'), rival: of('pipe'), note },
        goal: { of: 'ratio', atMost: 1 },
      }),
      row({
        name: `CPU per token, ${label}, against the usual way`,
        ...{ unit, ours: of('ours'), rival: of('usual'), note },
        goal: { of: 'ratio', atMost: 0.6 },
      }),
      row({
        name: `share of a core, ${label}, against the pipe`,
        ...{ unit: '%', note },
        ours: results.ours.map(({ core }) => core * 100),
        rival: results.pipe.map(({ core }) => core * 100),
        goal: name === 'cpu-100x50' ? { of: 'ours', atMost: 60 } : undefined,
      }),
      row({
        name: `token latency p99, ${label}, against the usual way`,
        unit: 'ms',
        ours: results.ours.map(({ latency }) => latency.p99),
        rival: results.usual.map(({ latency }) => latency.p99),
      }),
    ]
  },
})

export const cpuFigures: Figure[] = [
  cpu('cpu-100x50', '100×50', { streams: 100, rate: 50 }, { streams: 10, rate: 50 }),
  cpu('cpu-500x20', '500×20', { streams: 500, rate: 20 }, { streams: 20, rate: 20 }),
  // A tenth of the streams, as more than 10,000 frames a second on two cores measure the load.
  cpu(
    'cpu-ten-10x50',
    '10×50 to ten listeners',
    { streams: 10, rate: 50, listeners: 10 },
    { streams: 2, rate: 50, listeners: 10 },
  ),
  cpu(
    'cpu-ten-50x20',
    '50×20 to ten listeners',
    { streams: 50, rate: 20, listeners: 10 },
    { streams: 2, rate: 20, listeners: 10 },
  ),
]
