import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type ServerProcess, startServer } from '../services/server-process.js'
import { between, type Trial } from './trial.js'

/** The stand-in for Ollama as a process of its own. @returns its URL, and its end. */
export async function startStandInProcess(trial: Trial, ...options: string[]) {
  const entry = join(import.meta.dirname, '../services/ollama-stand-in-process.js')
  const child = spawn(process.execPath, [entry, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const end = async () => {
    child.kill('SIGKILL')
    await exited
  }
  trial.teardown(end)
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  const { url } = JSON.parse(line) as { url: string }
  return { url, end }
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

/** A server that dies and comes back, over one data directory and on one port. */
export class MortalServer {
  #server: ServerProcess | undefined

  constructor(
    private readonly trial: Trial,
    private readonly settings: Readonly<Record<string, string>>,
    readonly url: string,
  ) {
    trial.teardown(() => this.kill())
  }

  /** Starts it; resolves when it listens. */
  async start(): Promise<void> {
    const server = await startServer(this.settings)
    this.#watch(server)
    // Ended meanwhile: nobody else would end this one.
    if (this.trial.signal.aborted) await this.kill()
  }

  async kill(): Promise<void> {
    await this.#server?.end('SIGKILL')
  }

  /** Starts it and kills it `ms` after it has taken the data directory, whether it listens or not. */
  async startAndKill(ms: number): Promise<void> {
    const before = await this.#pidOnFile()
    const starting = startServer(this.settings).then(
      (server) => this.#watch(server),
      // It was killed before it listened, as it was to be.
      (error: Error) => {
        for (const line of error.message.split('\n')) this.trial.note('server', line)
      },
    )
    const pid = await this.trial.until('the server takes its data directory', async () => {
      const now = await this.#pidOnFile()
      return now === before ? undefined : now
    })
    await this.trial.pause(ms)
    process.kill(pid, 'SIGKILL')
    await starting
    await this.kill()
  }

  /** Stops it for a while, as a machine that is suspended does. */
  async suspend(ms: number): Promise<void> {
    this.#server?.child.kill('SIGSTOP')
    await this.trial.pause(ms)
    this.#server?.child.kill('SIGCONT')
  }

  #watch(server: ServerProcess): void {
    this.#server = server
    const hear = (line: string) => this.#hear(line)
    server.lines.forEach(hear)
    server.child.on('line', hear)
  }

  #hear(line: string): void {
    this.trial.note('server', line)
    if (line.includes('reply taken over')) this.trial.count('takeovers')
    this.trial.check(!/"level":[56]0/.test(line), 'the server logged an error', { line })
  }

  async #pidOnFile(): Promise<number | undefined> {
    try {
      const file = join(this.settings.DATA_DIR ?? '', 'server.pid')
      return JSON.parse(await readFile(file, 'utf8')).pid
    } catch {
      // Not there yet, or being written.
      return undefined
    }
  }
}
