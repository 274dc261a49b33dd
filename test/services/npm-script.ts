import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { eventually } from './eventually.js'
import { isThere } from './is-there.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const root = join(import.meta.dirname, '../../..')
/** What a server is built from. */
const code = [
  'scripts',
  'src',
  'plugins',
  'routes',
  'schemas',
  'web',
  'docs',
  'package.json',
  'tsconfig.json',
]

/** A checkout of its own, without tests, whose `dist` a script may write. */
export async function checkout(t: Teardown): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'chat-npm-'))
  t.teardown(() => rm(copy, { recursive: true, force: true, maxRetries: 10 }))
  for (const name of code) await cp(join(root, name), join(copy, name), { recursive: true })
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  return copy
}

/** A script of package.json's, run by the real npm in a process group of its own. */
export function runScript(
  t: Teardown,
  cwd: string,
  script: string,
  settings: Readonly<Record<string, string>> = {},
) {
  const child = spawn('npm', ['run', script], {
    cwd,
    env: {
      PATH: process.env.PATH,
      HOME: cwd,
      PORT: '0',
      START_TIMEOUT_MS: '120000',
      npm_config_update_notifier: 'false',
      ...settings,
    },
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const group = -(child.pid ?? 0)
  t.teardown(async () => {
    if (!isThere(group)) return
    process.kill(group, 'SIGKILL')
    // What npm started may write to the copy after npm itself has ended.
    await eventually('all of the group has ended', () => !isThere(group))
  })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })
  const heard: string[] = []
  lines.on('line', (line) => heard.push(line))

  return {
    heard,
    /** Resolves with the next line that has `text`. */
    printed: (text: string) =>
      new Promise<string>((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`not printed: ${text}\n${heard.join('\n')}`)),
          300_000,
        )
        lines.on('line', function look(line) {
          if (!line.includes(text)) return
          clearTimeout(timer)
          lines.off('line', look)
          resolve(line)
        })
      }),
    /** Ends npm alone, as a supervisor does, and resolves with its exit status. */
    async end(signal: NodeJS.Signals) {
      child.kill(signal)
      return (await exited)[0]
    },
    hasEnded: () => !isThere(group),
  }
}

/** The server's address in the line that tells that it listens. */
export const listeningAt = (line: string) =>
  /Server listening at (http:[^"]+)/.exec(line)?.[1] ?? ''
