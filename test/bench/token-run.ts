import { setTimeout as delay } from 'node:timers/promises'
import type { Bench, SideName } from './bench.js'

export type TokenSide = Extract<
  SideName,
  'ours' | 'redis' | 'usual' | 'bare' | 'pipe' | 'shared' | 'other'
>

export interface TokenRun {
  streams: number
  /** Tokens a second of each. */
  rate: number
  listeners?: number
  /** Length of a reply; the next begins at its end. Unless told, one lasts as long as the run. */
  tokens?: number
  options?: object
  /** How long is counted; 4000 unless told. */
  windowMs?: number
  /** How many tokens from one whose latency is counted to the next; 10 unless told. */
  stampEvery?: number
  /** Called when all run, before anything is counted. */
  onRunning?: () => void
}

/** Of a window in which everything ran steadily. */
export type TokenResult = Awaited<ReturnType<typeof runTokens>>

/** The share of the emitted text that has to come within the window for the rate to be held. */
const heldShare = 0.97
const patienceMs = 30_000
/** How much, and for how long, a side relays before it is measured. */
const warmTokensPerSecond = 2000
const warmUpMs = 6000
/** Between the beginnings of two streams: a start is not what a steady run measures. */
const msBetweenStarts = 4
/** How long all streams run before anything is counted: V8 drops the code of a side that rested. */
const settleMs = 4000

/**
 * Opens a side's conversations; a group's name is the side's.
 * @param first the first of the accounts whose chats they are.
 */
export async function openConversations(
  bench: Bench,
  side: TokenSide,
  streams: number,
  listeners = 1,
  first = 0,
): Promise<void> {
  const { url } = await bench.server(side)
  const { accounts } = await bench.seed()
  const slots = accounts.slice(first, first + streams).map((account) => ({ url, ...account }))
  const protocol = side === 'pipe' ? 'pipe' : 'socket'
  await bench.load.open(side, { protocol, slots, listeners })
}

/**
 * Opens the conversations of several sides, and runs each in turn for a round. Each relays some
 * thousands of tokens before: a few streams would be measured while V8 still compiles.
 */
export async function compareTokens<S extends TokenSide>(
  bench: Bench,
  what: string,
  sides: readonly S[],
  run: TokenRun,
): Promise<Record<S, TokenResult[]>> {
  for (const side of sides) {
    await openConversations(bench, side, run.streams, run.listeners)
    const rate = Math.max(run.rate, warmTokensPerSecond / run.streams)
    await runTokens(bench, side, { ...run, rate, windowMs: warmUpMs })
  }
  return interleave(bench, what, sides, (side) => runTokens(bench, side, run))
}

/** Streams in a side's conversations, which are open, and counts once all of them run. */
export async function runTokens(
  bench: Bench,
  side: TokenSide,
  run: TokenRun,
  onMeasured: () => void = () => {},
) {
  const { emitter, load } = bench
  const server = await bench.server(side)
  const { streams, rate, listeners = 1, options, stampEvery = 10 } = run
  const times = {
    spreadMs: bench.size(Math.max(1000, streams * msBetweenStarts), 100),
    settleMs: bench.size(settleMs, 100),
    windowMs: bench.size(run.windowMs ?? 4000, 300),
  }
  const lastingMs = times.spreadMs + times.settleMs + times.windowMs + 30_000
  const tokens = run.tokens ?? Math.ceil((rate * lastingMs) / 1000)
  await load.reset()
  await load.say(side, {
    rate,
    tokens,
    count: streams,
    spreadMs: times.spreadMs,
    stampEvery,
    again: run.tokens !== undefined,
    ...(options && { options }),
  })
  const refusedAtStart = await running(bench, side, streams)
  run.onRunning?.()
  await delay(times.settleMs)
  await load.reset()
  const before = await emitter.counts()
  const used = await bench.observe(server, () => delay(times.windowMs))
  const [heard, after] = await Promise.all([load.heard(), emitter.counts()])
  onMeasured()
  await finish(bench, side)

  const emitted = after.tokens - before.tokens
  const share = heard.chars / ((after.chars - before.chars) * listeners)
  return {
    ...heard,
    refused: heard.refused + refusedAtStart,
    /** CPU for a token that was emitted, in microseconds. */
    cpuUs: (used.cpuSeconds * 1e6) / emitted,
    core: used.cpuSeconds / used.seconds,
    tokensPerSecond: emitted / used.seconds,
    /** Whether the emitter kept its rate, and the listeners got what it sent. */
    isHeld: share >= heldShare && emitted >= heldShare * streams * rate * used.seconds,
    begun: after.begun - before.begun,
  }
}

/** Resolves when so many streams run. @returns how many the side refused. */
async function running(bench: Bench, side: TokenSide, streams: number): Promise<number> {
  const deadline = performance.now() + patienceMs
  for (;;) {
    const [counts, { refused }] = await Promise.all([bench.emitter.counts(), bench.load.heard()])
    // Of replies that are begun again some are always between two.
    if (counts.running + refused >= 0.9 * streams) return refused
    if (performance.now() > deadline) {
      throw new Error(`${side}: ${counts.running} of ${streams} streams began`)
    }
    await delay(20)
  }
}

/** Ends every reply of a side, and begins no more. */
export async function finish(bench: Bench, side: TokenSide): Promise<void> {
  const deadline = performance.now() + patienceMs
  for (;;) {
    // One may reach the emitter only now.
    await bench.emitter.finish()
    const left = await bench.load.quiet(side, 200)
    if (left === 0) return
    if (performance.now() > deadline) throw new Error(`${side}: ${left} replies never ended`)
  }
}

/** What has to be known of runs besides their figures; undefined when all is well. */
export function notesOn(results: Partial<Record<TokenSide, TokenResult[]>>): string | undefined {
  const notes = Object.entries(results).flatMap(([side, runs]) => {
    const refused = runs.reduce((sum, run) => sum + run.refused, 0)
    return [
      ...(runs.some(({ isHeld }) => !isHeld) ? [`not held by ${side}`] : []),
      ...(refused > 0 ? [`${refused} replies failed by ${side}`] : []),
    ]
  })
  return notes.length > 0 ? notes.join(', ') : undefined
}

/** Several sides in turn, as often as there are rounds: A B C A B C … */
export async function interleave<S extends string, R>(
  bench: Bench,
  what: string,
  sides: readonly S[],
  measure: (side: S, round: number) => Promise<R>,
): Promise<Record<S, R[]>> {
  const results = Object.fromEntries(sides.map((side) => [side, [] as R[]])) as Record<S, R[]>
  for (let round = 1; round <= bench.options.rounds; round++) {
    for (const side of sides) {
      bench.progress(`${what}, ${side}, ${round} of ${bench.options.rounds}`)
      results[side].push(await measure(side, round))
    }
  }
  return results
}
