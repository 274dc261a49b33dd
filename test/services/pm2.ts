import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { eventually } from './eventually.js'
import { freePort } from './free-port.js'
import { isThere } from './is-there.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const shipped = join(import.meta.dirname, '../../../deploy/ecosystem.config.cjs')
const commandMs = 300_000

interface Listed {
  name: string
  pid: number
  pm2_env: { status: string; restart_time: number; exec_mode: string }
}

/**
 * The servers of the shipped ecosystem file, but for their ports, in a PM2 of their own: it knows no
 * other's processes, and ends with the test.
 * @param program TEST_PM2.
 * @param settings what `.env` would say.
 */
export async function startPm2(
  t: Teardown,
  program: string,
  settings: Readonly<Record<string, string>>,
) {
  const home = await mkdtemp(join(tmpdir(), 'chat-pm2-'))
  const ports = [await freePort(), await freePort(), await freePort()]
  const config = join(home, 'test.config.cjs')
  await writeFile(
    config,
    `const { join } = require('node:path')
     const { apps } = require(${JSON.stringify(shipped)})
     const ports = ${JSON.stringify(ports)}
     const settings = ${JSON.stringify(settings)}
     module.exports = { apps: apps.map((app, n) => ({
       ...app,
       script: join(app.cwd, app.script),
       cwd: ${JSON.stringify(home)},
       // A server that never says \`ready\` fails the test.
       listen_timeout: ${2 * commandMs},
       env: { ...app.env, ...settings, PORT: ports[n] },
     })) }`,
  )
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    PM2_HOME: home,
    PM2_DISABLE_VERSION_CHECK: 'true',
  }
  const pm2 = async (...words: string[]) => {
    const options = { env, cwd: home, timeout: commandMs }
    return (await promisify(execFile)(program, words, options)).stdout
  }
  t.teardown(async () => {
    const pidFile = join(home, 'pm2.pid')
    const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : undefined
    await pm2('kill')
    await eventually('PM2 has ended', () => pid === undefined || !isThere(pid))
    await rm(home, { recursive: true, force: true, maxRetries: 10 })
  })
  await pm2('start', config)
  return {
    urls: ports.map((port) => `http://127.0.0.1:${port}`),
    pm2,
    list: async () => JSON.parse(await pm2('jlist')) as Listed[],
    /** The last lines that a server printed. */
    log: (name: string) => pm2('logs', name, '--nostream', '--lines', '50', '--raw'),
  }
}
