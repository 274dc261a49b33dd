import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** The server's program. */
export const entry = join(import.meta.dirname, '../../src/server.js')
const startMs = 120_000
/** A busy machine starts a server slowly. */
const ownSettings = {
  NODE_ENV: 'test',
  HOST: '127.0.0.1',
  PORT: '0',
  ELIZA_PACE_MS: '0',
  START_TIMEOUT_MS: `${startMs}`,
}

export interface ServerProcess {
  url: string
  pid: number
  child: ChildProcess
  /** Every line that it has printed. */
  lines: string[]
  /** Sends a signal and resolves with the exit status, or the signal that ended it. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

/** Runs a program of Node until it ends, or prints a line that `isReady` answers to. */
function launch(settings: Readonly<Record<string, string>>, cwd: string) {
  const child = spawn(process.execPath, [entry], {
    cwd,
    // It inherits none of this process's settings.
    env: { PATH: process.env.PATH, ...ownSettings, ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  for (const output of [child.stdout, child.stderr]) {
    createInterface({ input: output }).on('line', (line) => {
      lines.push(line)
      child.emit('line', line)
    })
  }
  return { child, lines }
}

type Launched = ReturnType<typeof launch>['child']

/**
 * Starts the server as a process of its own; resolves when it listens.
 * @param onLaunch called with the process before it has done anything.
 * @param cwd where it looks for `.env`.
 */
export async function startServer(
  settings: Readonly<Record<string, string>>,
  onLaunch: (child: ChildProcess) => void = () => {},
  cwd = process.cwd(),
): Promise<ServerProcess> {
  const { child, lines } = launch(settings, cwd)
  onLaunch(child)
  const exited = once(child, 'exit')
  const url = await new Promise<string>((resolve, reject) => {
    const fail = (why: string) => {
      child.kill('SIGKILL')
      reject(new Error(`${why}:\n${lines.join('\n')}`))
    }
    const timer = setTimeout(() => fail('the server did not start'), startMs)
    child.on('line', (line: string) => {
      const listening = /Server listening at (http:\/\/[^"\s]+)/.exec(line)?.[1]
      if (!listening) return
      clearTimeout(timer)
      resolve(listening)
    })
    child.once('exit', () => {
      clearTimeout(timer)
      fail('the server ended')
    })
  })
  return {
    url,
    pid: child.pid ?? 0,
    child,
    lines,
    async end(signal) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      const [status, by] = await exited
      return status ?? by
    },
  }
}

/** Starts the server where it should refuse to, and resolves with how it ended and what it said. */
export async function startRefused(
  settings: Readonly<Record<string, string>>,
  cwd = process.cwd(),
  onLaunch: (child: Launched) => void = () => {},
) {
  const { child, lines } = launch(settings, cwd)
  onLaunch(child)
  const timer = setTimeout(() => child.kill('SIGKILL'), startMs)
  const [status] = await once(child, 'close')
  clearTimeout(timer)
  return { status: status as number | null, output: lines.join('\n') }
}
