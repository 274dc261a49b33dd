import { spawn } from 'node:child_process'
import { appendFile, cp, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { eventually } from './services/eventually.js'

const root = join(import.meta.dirname, '../..')
const code = ['src', 'plugins', 'routes', 'schemas', 'web', 'test', 'package.json', 'tsconfig.json']

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

t.test('npm run dev serves, and restarts on a change', async (t) => {
  const copy = await mkdtemp(join(tmpdir(), 'chat-dev-'))
  t.teardown(() => rm(copy, { recursive: true, force: true, maxRetries: 10 }))
  for (const name of code) await cp(join(root, name), join(copy, name), { recursive: true })
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))

  const child = spawn('npm', ['run', 'dev'], {
    cwd: copy,
    env: { PATH: process.env.PATH, HOME: copy, PORT: '0' },
    // A group of its own: it is ended as a terminal ends it.
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })
  t.teardown(async () => {
    const { pid } = child
    if (!pid || !isThere(-pid)) return
    process.kill(-pid, 'SIGINT')
    // What npm started may write to the copy after npm itself has ended.
    await eventually('all of the group has ended', () => !isThere(-pid))
  })
  const printed = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not printed: ${text}`)), 180_000)
      lines.on('line', function look(line) {
        if (!line.includes(text)) return
        clearTimeout(timer)
        lines.off('line', look)
        resolve()
      })
    })

  const watching = printed('Watching for file changes')
  await printed('Server listening')
  await watching
  const again = printed('Server listening')
  await appendFile(join(copy, 'src/ids.ts'), '\nexport const changed = true\n')
  await again
  t.pass('it listens again')
})
