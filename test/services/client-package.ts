import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { patienceMs } from './eventually.js'

const root = join(import.meta.dirname, '../../..')
const execute = promisify(execFile)

/** Runs a program to its end. */
export const run = (cwd: string, program: string, ...args: string[]) =>
  execute(program, args, { cwd, timeout: patienceMs, maxBuffer: 16 * 1024 * 1024 })

/** Builds the client's package in a folder. */
export async function buildClient(folder: string): Promise<void> {
  for (const script of [['client-types.js'], ['build-client.js', folder]]) {
    const [name = '', ...args] = script
    await run(root, process.execPath, join('scripts', name), ...args)
  }
}

/** Installs packages, given by folder or tarball, and the socket.io-client that this checkout has. */
export async function installWithSocketIo(project: string, ...packages: string[]): Promise<void> {
  const manifest = join(root, 'node_modules/socket.io-client/package.json')
  const { version } = JSON.parse(await readFile(manifest, 'utf8'))
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline']
  await run(project, 'npm', 'install', ...flags, ...packages, `socket.io-client@${version}`)
}
