import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import Libsql from 'libsql'
import { startServer } from '../services/server-process.js'
import { between, type Settings, type Trial } from './trial.js'

/** The stand-in for Ollama as a process of its own. @returns its URL. */
export async function startStandInProcess(trial: Trial, ...options: string[]): Promise<string> {
  const entry = join(import.meta.dirname, '../services/ollama-stand-in-process.js')
  const child = spawn(process.execPath, [entry, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  trial.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  return (JSON.parse(line) as { url: string }).url
}

/**
 * A port that nobody has, below those that outgoing connections get: a client that tries to connect
 * to one of those while nothing listens can end up connected to itself.
 */
export async function freePort(trial: Trial): Promise<number> {
  const probe = createServer()
  try {
    for (;;) {
      const port = between(trial.random, 20_000, 30_000)
      const listening = once(probe, 'listening')
      probe.listen(port, '127.0.0.1')
      const taken = await listening.then(
        () => false,
        () => true,
      )
      if (!taken) return port
    }
  } finally {
    if (probe.listening) await new Promise((resolve) => probe.close(resolve))
  }
}

/** What a request that waited for its reply is told when the model or the server failed it. */
const modelFault = /"code":"(MODEL_[A-Z_]+|REPLY_INTERRUPTED)"/

const storeFault = /"code":"STORE_UNAVAILABLE"/

/** No token is refreshed, and no reply is cut. The limits of use are the default ones. */
const common = { JWT_EXPIRES_IN: '30d', MAX_NUM_PREDICT: '1048576' }

/** A server that dies and comes back, over one data directory and on one port. */
export class MortalServer {
  #child: ChildProcess | undefined
  #exit: Promise<number | null> = Promise.resolve(null)
  #startMs = 1000
  #suspension = Promise.resolve()
  #asleepMs = () => 0

  private constructor(
    private readonly trial: Trial,
    private readonly settings: Settings,
    readonly url: string,
  ) {}

  /** Starts one that keeps its data in the trial's folder, and ends it with the trial. */
  static async start(trial: Trial, settings: Settings): Promise<MortalServer> {
    const port = await freePort(trial)
    const server = new MortalServer(
      trial,
      { ...common, DATA_DIR: join(trial.folder, 'data'), PORT: `${port}`, ...settings },
      `http://127.0.0.1:${port}`,
    )
    trial.teardown(() => server.kill())
    await server.start()
    return server
  }

  /** Starts it; resolves when it listens. */
  async start(): Promise<void> {
    const startedAt = performance.now()
    await this.#launch()
    this.#startMs = Math.ceil(performance.now() - startedAt)
  }

  /** How long its last start took, in whole milliseconds. */
  get startMs(): number {
    return this.#startMs
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** Starts it and kills it at some moment before or shortly after it listens. */
  async startAndKill(): Promise<void> {
    // It is killed before it listens, mostly, as it is to be.
    const starting = this.#launch().catch(() => undefined)
    await this.trial.pause(between(this.trial.random, 0, Math.ceil(this.#startMs * 1.2)))
    await this.kill()
    await starting
  }

  /** Stops it for a while, as a machine that is suspended does; one suspension comes after another. */
  suspend(ms: number): Promise<void> {
    this.#suspension = this.#suspension.then(async () => {
      this.#child?.kill('SIGSTOP')
      const before = this.#asleepMs
      const since = performance.now()
      this.#asleepMs = () => before() + performance.now() - since
      await this.trial.pause(ms)
      this.#child?.kill('SIGCONT')
      const after = this.#asleepMs()
      this.#asleepMs = () => after
    })
    return this.#suspension
  }

  /** A clock that stands still while the server is suspended. */
  get awakeMs(): number {
    return performance.now() - this.#asleepMs()
  }

  /** Ends it as an operator does, whatever it is doing. */
  async terminate(): Promise<void> {
    const status = await this.#end('SIGTERM')
    this.trial.check(status === 0, 'the server did not end well', { status })
  }

  /** Ends it when every reply has ended, and checks what it leaves. */
  async end(): Promise<void> {
    await this.terminate()
    const file = join(this.settings.DATA_DIR ?? '', 'chat.db')
    if (existsSync(file)) this.#verifyFile(file)
  }

  /** What no route would show. */
  #verifyFile(file: string): void {
    const db = new Libsql(file, { readonly: true })
    const answers = [
      'PRAGMA integrity_check',
      'SELECT count(*) FROM messages WHERE chat_id NOT IN (SELECT id FROM chats)',
      'SELECT count(*) FROM messages WHERE lease_until IS NOT NULL OR owner IS NOT NULL',
    ].map((sql) => db.prepare(sql).raw().get([]))
    db.close()
    const right = isDeepStrictEqual(answers, [['ok'], [0], [0]])
    this.trial.check(right, 'the database keeps what it must not', { answers })
  }

  async #launch(): Promise<void> {
    this.trial.signal.throwIfAborted()
    await startServer(this.settings, (child) => {
      this.#child = child
      this.#exit = new Promise((resolve) => child.once('exit', resolve))
      this.#watch(child)
    })
  }

  /** @returns its exit status, or null when a signal ended it. */
  async #end(signal: NodeJS.Signals): Promise<number | null> {
    this.#child?.kill(signal)
    return this.#exit
  }

  #watch(child: ChildProcess): void {
    child.on('line', (line: string) => {
      this.trial.note('server', line)
      // Only who slept for longer than its lease writes to a log that another has closed.
      if (line.includes('"Redis refused a command"') && this.#asleepMs() === 0) {
        this.trial.wrong('a command was refused', { line })
      }
      if (line.includes('"reply taken over"')) this.trial.count('takeovers')
      const expected = modelFault.test(line) || (this.trial.storeFails && storeFault.test(line))
      if (/"level":[56]0/.test(line) && !expected) {
        this.trial.wrong('the server logged an error', { line })
      }
    })
  }
}
