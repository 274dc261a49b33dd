import { setMaxListeners } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { pause } from '../../web/client/backoff.js'
import { type Random, randomFrom } from '../web/client/model-reply.js'

/** What a wrong case leaves behind of each kind, in lines; older ones are forgotten. */
const maxLines = 50_000
const lookEveryMs = 10
/** What ends a run from outside; its processes end with it. */
const signals = ['SIGINT', 'SIGTERM'] as const

/** Settings of the server by their environment variable, over those that a program has of its own. */
export type Settings = Readonly<Record<string, string>>
type Program = (trial: Trial, count: number, settings: Settings) => Promise<void>

/** The first thing that was not as it must be. */
class Wrong extends Error {
  override readonly name = 'Wrong'
}

/** One program's run: its random numbers, its figures, what it opened, and the evidence. */
export class Trial {
  readonly random: Random
  readonly figures: Record<string, number> = {}
  /** Whether the database is away at times, which servers then log as errors. */
  storeFails = false
  readonly #controller = new AbortController()
  readonly #logs = new Map<string, string[]>()
  readonly #ends: (() => unknown)[] = []
  #serial = 0

  private constructor(
    seed: number,
    /** Everything that the run keeps is in here; removed when nothing was wrong. */
    readonly folder: string,
    private readonly report: (line: string) => void,
  ) {
    this.random = randomFrom(seed)
    setMaxListeners(0, this.signal)
  }

  /**
   * Runs a program and ends all that it opened.
   * @throws Error that names the folder with the evidence, when anything was wrong.
   */
  static async run(
    program: Program,
    count: number,
    seed: number,
    settings: Settings = {},
    report: (line: string) => void = () => {},
  ): Promise<Record<string, number>> {
    const folder = await mkdtemp(join(tmpdir(), `torture-${program.name}-`))
    const trial = new Trial(seed, folder, report)
    const end = () => trial.wrong('it was ended from outside')
    for (const signal of signals) process.once(signal, end)
    const failed = new Promise<never>((_, reject) => {
      trial.signal.addEventListener('abort', () => reject(trial.signal.reason))
    })
    try {
      await Promise.race([program(trial, count, settings), failed])
    } catch (error) {
      trial.#controller.abort(error)
      await trial.#keepEvidence(error)
      throw new Error(`${program.name}, seed ${seed}: ${error}; the evidence is in ${folder}`, {
        cause: error,
      })
    } finally {
      trial.#controller.abort(new Error('the trial is over'))
      for (const close of trial.#ends.reverse()) await close()
      for (const signal of signals) process.off(signal, end)
    }
    await rm(folder, { recursive: true, force: true })
    return trial.figures
  }

  /** Aborted when something was wrong, and when the trial is over. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** A number that this run has not given yet. */
  serial(): number {
    this.#serial += 1
    return this.#serial
  }

  /** Random numbers of an actor's own, which the others' timing does not change. */
  fork(): Random {
    return randomFrom(this.random.upTo(2 ** 31))
  }

  teardown(end: () => unknown): void {
    this.#ends.push(end)
  }

  /** Adds to one of the figures. */
  count(figure: string, by = 1): void {
    this.figures[figure] = (this.figures[figure] ?? 0) + by
  }

  progress(done: number, of: number): void {
    this.report(`${done} of ${of}: ${figuresLine(this.figures)}`)
  }

  /** A line of the evidence: what a client did or heard, or what the server logged. */
  note(log: 'clients' | 'server', line: string): void {
    const lines = this.#logs.get(log) ?? []
    this.#logs.set(log, lines)
    lines.push(log === 'server' ? line : `${new Date().toISOString()} ${line}`)
    if (lines.length > maxLines) lines.splice(0, maxLines / 10)
  }

  /** @throws Wrong, with which the whole trial ends. */
  check(ok: boolean, what: string, detail: object = {}): asserts ok {
    if (!ok) throw this.wrong(what, detail)
  }

  /** Ends the whole trial; in a listener, where nobody would catch what is thrown. */
  wrong(what: string, detail: object = {}): Error {
    const wrong = new Wrong(`${what} ${inspect(detail, { depth: 6, breakLength: 120 })}`)
    this.#controller.abort(wrong)
    return wrong
  }

  /** Something that goes on beside the program; what it throws ends the trial. */
  async also<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      return await work
    } catch (error) {
      this.#controller.abort(error)
      return undefined
    }
  }

  /** Waits until `found` answers with something; what takes longer than `ms` is wrong. */
  async until<T>(
    what: string,
    found: () => T | undefined | Promise<T | undefined>,
    ms = 30_000,
    everyMs = lookEveryMs,
  ): Promise<T> {
    for (const deadline = Date.now() + ms; ; ) {
      const value = await found()
      if (value !== undefined) return value
      this.check(Date.now() < deadline, `not within ${ms} ms: ${what}`)
      await this.pause(everyMs)
    }
  }

  /** Waits. @throws what the trial ended with, when it does meanwhile. */
  async pause(ms: number): Promise<void> {
    await pause(ms, this.signal)
    this.signal.throwIfAborted()
  }

  async #keepEvidence(error: unknown): Promise<void> {
    await mkdir(this.folder, { recursive: true })
    for (const [name, lines] of this.#logs) {
      await writeFile(join(this.folder, `${name}.log`), `${lines.join('\n')}\n`)
    }
    await writeFile(join(this.folder, 'wrong.txt'), `${inspect(error)}\n`)
  }
}

export function figuresLine(figures: Readonly<Record<string, number>>): string {
  return Object.entries(figures)
    .map(([name, value]) => `${value} ${name}`)
    .join(', ')
}

/** A whole number from `min` to `max`. */
export const between = (random: Random, min: number, max: number) => min + random.upTo(max - min)

/** One of them. */
export function pick<T>(random: Random, items: readonly [T, ...T[]]): T {
  return items[random.upTo(items.length - 1)] ?? items[0]
}
