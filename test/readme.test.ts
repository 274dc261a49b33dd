import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { freePort } from './services/free-port.js'
import { type ServerProcess, startServer } from './services/server-process.js'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')

function block(language: string): string {
  const found = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'ms').exec(readme)?.[1]
  if (!found) throw new Error(`the README has no block of ${language}`)
  return found
}

/** Whether a line was printed as the README has it; where it ends in … it is cut. */
const isAsWritten = (written: string, line: string) =>
  written.endsWith(' …') ? line.startsWith(written.slice(0, -2)) : line === written

/** A server on one port and one folder, started again whenever it is killed, as the README's reader does. */
async function restartedServer(t: { teardown(end: () => unknown): unknown }) {
  const folder = await mkdtemp(join(tmpdir(), 'readme-'))
  const pidFile = join(folder, 'pid')
  const settings = { DATA_DIR: folder, PORT: `${await freePort()}`, ELIZA_PACE_MS: '100' }
  let isOver = false
  let kills = 0

  async function start(): Promise<ServerProcess> {
    const server = await startServer(settings)
    await writeFile(pidFile, `${server.pid}`)
    server.child.once('exit', () => {
      if (isOver) return
      kills++
      running = start()
    })
    return server
  }

  let running = start()
  t.teardown(async () => {
    isOver = true
    await (await running).end('SIGKILL')
    await rm(folder, { recursive: true })
  })
  const { url } = await running
  return { url, pidFile, kills: () => kills }
}

t.test('the README’s first conversation is true, also pasted again', async (t) => {
  const { url, kills, pidFile } = await restartedServer(t)
  const script = block('bash')
    .replaceAll('http://localhost:3000', url)
    .replace('pkill -9 -f dist/src/server.js', `kill -9 $(cat ${pidFile})`)
  const options = { timeout: 120_000 }
  await run('bash', ['-c', script], options)
  const { stdout } = await run('bash', ['-c', script], options)
  t.equal(kills(), 2, 'the server was killed each time')
  const lines = stdout.trimEnd().split('\n')
  for (const written of block('text').trimEnd().split('\n')) {
    t.ok(
      lines.some((line) => isAsWritten(written, line)),
      `it prints: ${written}`,
    )
  }
  t.match(stdout, /^event: message-chunk$/m, 'and the streams')
  t.match(stdout, /"offset":23,/, 'from the offset')
})

t.test('the README’s conversation over a socket is true', async (t) => {
  const { url } = await restartedServer(t)
  const code = block('js')
  t.ok(code.trim().split('\n').length <= 15, 'it is short')
  // Inside the checkout, so that it finds socket.io-client.
  const file = join(root, 'dist', `readme-${process.pid}.mjs`)
  await writeFile(file, code)
  t.teardown(() => rm(file))
  const { stdout } = await run(process.execPath, [file], {
    env: { PATH: process.env.PATH, URL: url },
    timeout: 30_000,
  })
  t.match(stdout, /^In what way \? .*\.$/)
})
