import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { SignedIn } from '../../schemas/auth.js'
import { examples } from '../../schemas/examples.js'
import { api, embedded, startApp } from '../services/app.js'
import { type Command, ownWarnings, type Place, type Sdk, sdks } from './sdks.js'

/*
 * Gives the API's document to linters and generators, compiles each SDK, and holds a whole conversation with
 * a server by it: `npm run sdks -- [--short] [--only NAME]…`.
 */

const root = join(import.meta.dirname, '../../..')
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'durable-chat-sdks')
/** Installing may have to fetch a hundred megabytes. */
const commandMs = 600_000
const shownLines = 60

const stages = ['generate', 'compile', 'use'] as const
type Stage = 'install' | (typeof stages)[number]

/** A command that failed; its message ends with what that printed. */
class Failure extends Error {
  constructor(
    readonly stage: Stage,
    reason: string,
    output: string,
  ) {
    super(`${stage}: ${reason}\n${output.trimEnd().split('\n').slice(-shownLines).join('\n')}`)
  }
}

/** Runs a command to its end. @returns what it printed. @throws Failure. */
async function run(
  stage: Stage,
  { command, args, env, cwd = '' }: Command,
  place: Place,
  token: string,
): Promise<string> {
  const child = spawn(command, args, {
    cwd: cwd === place.tools ? cwd : join(place.work, cwd),
    env: {
      ...process.env,
      CI: 'true',
      NO_COLOR: '1',
      API_URL: place.url,
      API_TOKEN: token,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: commandMs,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const status = await new Promise<number | string>((resolve) => {
    child.once('error', ({ message }) => resolve(`${message}: is it installed?`))
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'no status'))
  })
  if (status === 0) return output
  throw new Failure(stage, `${[command, ...args].join(' ')} failed (${status})`, output)
}

/** The folder of what an SDK needs, kept until what is to be installed changes. */
async function toolsOf({ name, pins, install }: Sdk, place: Omit<Place, 'tools'>): Promise<string> {
  const commands = install({ ...place, tools: '' })
  const hash = createHash('sha256').update(JSON.stringify(commands))
  for (const pin of pins) hash.update(await readFile(join(place.work, pin)))
  return join(cache, `${name}-${hash.digest('hex').slice(0, 16)}`)
}

/** Installs what an SDK needs, unless an earlier run did. @throws Failure. */
async function install(sdk: Sdk, place: Place): Promise<void> {
  const { tools, work } = place
  const mark = join(tools, 'installed')
  if (existsSync(mark)) return
  // Begins anew after a run that was cut short; a virtual environment may not be moved to its place.
  await rm(tools, { recursive: true, force: true })
  await mkdir(tools, { recursive: true })
  for (const pin of sdk.pins) await cp(join(work, pin), join(tools, pin))
  for (const command of sdk.install(place)) await run('install', command, place, '')
  await writeFile(mark, '')
}

/** Makes an SDK and uses it. @returns the seconds of each stage. @throws Failure. */
async function tryOut(sdk: Sdk): Promise<string[]> {
  const ends: (() => unknown)[] = []
  const work = await mkdtemp(join(tmpdir(), `sdk-${sdk.name}-`))
  try {
    await cp(join(root, 'test/sdks', sdk.name), work, { recursive: true })
    const { url } = await startApp(
      { teardown: (end) => ends.push(end) },
      { ...embedded, ...sdk.settings },
    )
    const { username, email } = examples.user
    const account = { username, email, password: examples.password }
    const { body } = await api(url)<SignedIn>('POST', '/api/auth/register', account)
    const document = join(work, 'document.json')
    await writeFile(document, await (await fetch(`${url}/openapi.json`)).text())
    const parts = { work, document, url, root, isShort: values.short }
    const place = { ...parts, tools: await toolsOf(sdk, parts) }

    await install(sdk, place)
    const seconds: string[] = []
    for (const stage of stages) {
      const startedAt = performance.now()
      const commands = sdk[stage](place)
      for (const command of commands) {
        const output = await run(stage, command, place, body.token)
        if (stage === 'generate') refuseWarnings(output)
      }
      const took = (performance.now() - startedAt) / 1000
      seconds.push(commands.length > 0 ? `${took.toFixed(1)} s` : '')
    }
    return seconds
  } finally {
    for (const end of ends) await end()
    await rm(work, { recursive: true, force: true })
  }
}

/** @throws Failure when a generator or linter warned about the document. */
function refuseWarnings(output: string): void {
  const lines = output.split('\n').filter((line) => /\bwarn(?:ing)?s?\b/i.test(line))
  const warnings = lines.filter((line) => !ownWarnings.some((own) => own.test(line)))
  if (warnings.length > 0) throw new Failure('generate', 'it warned about the document', output)
}

const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true, default: [] },
  },
})
const unknown = values.only.filter((name) => !sdks.some((sdk) => sdk.name === name))
if (unknown.length > 0) {
  const names = sdks.map(({ name }) => name).join(', ')
  console.error(`sdks: there is no ${unknown.join(', ')}; there are ${names}`)
  process.exit(1)
}
const chosen = sdks.filter(({ name, isShort }) =>
  values.only.length > 0 ? values.only.includes(name) : isShort || !values.short,
)

const rows: string[][] = []
let failed = 0
for (const sdk of chosen) {
  console.log(`sdks: ${sdk.name}`)
  try {
    rows.push([sdk.generator, ...(await tryOut(sdk))])
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    failed += 1
    const { stage, message } = error
    const cells = stages.map((name) => (name === stage ? 'FAILED' : ''))
    rows.push([sdk.generator, ...(stage === 'install' ? ['not installed', '', ''] : cells)])
    console.error(`sdks: ${sdk.name}: ${message}`)
  }
}
const header = ['SDK', 'generated', 'compiled', 'used']
const table = [header, header.map(() => '---'), ...rows]
console.log(table.map((cells) => `| ${cells.join(' | ')} |`).join('\n'))
console.log(`sdks: ${chosen.length - failed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
