import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Quota } from './quota.js'
import { cpuSeconds, residentBytes } from './system.js'

const startMs = 30_000
const stopMs = 15_000

/** A server that is measured. */
export interface Server {
  url: string
  pid: number
  cpu(): number
  memory(): number
  stop(): Promise<void>
}

/** Everything that the benchmark starts, none of which outlives it. */
export class Processes {
  readonly folder = mkdtempSync(join(tmpdir(), 'bench-'))
  readonly #guard: ChildProcess
  readonly #children = new Set<ChildProcess>()
  #count = 0

  constructor() {
    this.#guard = fork(join(import.meta.dirname, 'guard.js'), { stdio: 'ignore' })
    this.#guard.send({ folder: this.folder })
    this.#guard.unref()
    this.#guard.channel?.unref()
  }

  /** A process of the benchmark's own, spoken to by messages. */
  fork(file: string): ChildProcess {
    const child = fork(join(import.meta.dirname, file), { serialization: 'advanced' })
    this.#keep(child)
    return child
  }

  /**
   * Starts a server and waits until it takes connections.
   * @param settings its environment.
   * @param flags Node's own.
   * @throws Error with the last that it said, when it does not.
   */
  async serve(
    name: string,
    program: string,
    settings: Record<string, string>,
    flags: readonly string[] = [],
  ): Promise<Server> {
    const port = await freePort()
    const log = join(this.folder, `${name}-${++this.#count}.log`)
    const output = openSync(log, 'w')
    const child = spawn(process.execPath, [...flags, program], {
      cwd: this.folder,
      env: {
        PATH: process.env.PATH,
        NODE_ENV: 'production',
        HOST: '127.0.0.1',
        PORT: String(port),
        ...settings,
      },
      stdio: ['ignore', output, output],
    })
    this.#keep(child)
    const { pid = 0 } = child
    if (!(await listens(port, child))) {
      child.kill('SIGKILL')
      throw new Error(`${name} could not be started: ${lastWords(log)}`)
    }
    return {
      url: `http://127.0.0.1:${port}`,
      pid,
      cpu: () => cpuSeconds(pid),
      memory: () => residentBytes(pid),
      stop: () => stop(child),
    }
  }

  /** @throws Error when this system lets nobody bound a process. */
  quota(): Quota {
    const quota = new Quota(`bench-${process.pid}-${++this.#count}`)
    this.#guard.send({ group: quota.folder })
    return quota
  }

  #keep(child: ChildProcess) {
    this.#children.add(child)
    this.#guard.send({ pid: child.pid })
    child.once('exit', () => {
      this.#children.delete(child)
      if (this.#guard.connected) this.#guard.send({ over: child.pid })
    })
  }

  /** Ends everything at once. */
  close(): void {
    for (const child of this.#children) child.kill('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
    if (this.#guard.connected) this.#guard.disconnect()
  }
}

/** The line of a log that tells of an error, else the last. */
function lastWords(log: string): string {
  const lines = readFileSync(log, 'utf8').trim().split('\n')
  return lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? ''
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const kill = setTimeout(() => child.kill('SIGKILL'), stopMs)
  await exited
  clearTimeout(kill)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' ? (address?.port ?? 0) : 0
}

async function listens(port: number, child: ChildProcess): Promise<boolean> {
  const deadline = performance.now() + startMs
  while (performance.now() < deadline && child.exitCode === null && child.signalCode === null) {
    const socket = connect(port, '127.0.0.1')
    const isOpen = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'close').then(() => false),
    ]).catch(() => false)
    socket.destroy()
    if (isOpen) return true
    await delay(5)
  }
  return false
}
