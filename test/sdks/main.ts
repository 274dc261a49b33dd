import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { embedded, startApp } from '../services/app.js'
import { type Command, ownWarnings, type Place, type Sdk, sdks } from './sdks.js'

/*
 * Makes SDKs of the API's document by many generators, compiles them, and holds a whole conversation with
 * a server by each: `npm run sdks -- [--short] [--only NAME]…`.
 */

const root = join(import.meta.dirname, '../../..')
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'durable-chat-sdks')
/** Installing may have to fetch a hundred megabytes. */
const commandMs = 600_000
const shownLines = 40

type Stage = 'install' | 'generate' | 'compile' | 'use'

class Failure extends Error {
  constructor(stage: Stage, line: string, reason: string, output: string) {
    super(
      `${stage}: ${reason}: ${line}\n${output.trimEnd().split('\n').slice(-shownLines).join('\n')}`,
    )
  }
}

/** Runs a command to its end. @returns what it printed. @throws Failure. */
async function run(
  stage: Stage,
  { command, args, env, cwd }: Command,
  place: Place,
  apiUrl: string,
): Promise<string> {
  const line = [command, ...args].join(' ')
  const child = spawn(command, args, {
    cwd: join(cwd === place.tools ? '' : place.work, cwd ?? ''),
    env: { ...process.env, CI: 'true', NO_COLOR: '1', API_URL: apiUrl, ...env },
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
    child.once('error', ({ message }) => resolve(message))
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'no status'))
  })
  if (status !== 0) throw new Failure(stage, line, `failed (${status})`, output)
  return output
}

/** Installs what an SDK needs, unless a run before did. @returns where. */
async function installed(sdk: Sdk, place: Omit<Place, 'tools'>): Promise<string> {
  const hash = createHash('sha256').update(await readFile(join(import.meta.dirname, 'sdks.js')))
  for (const pin of sdk.pins) hash.update(await readFile(join(place.work, pin)))
  const tools = join(cache, `${sdk.name}-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(join(tools, 'installed'))) return tools
  // What a run that was cut short has left is begun anew. A virtual environment may not be moved.
  await rm(tools, { recursive: true, force: true })
  await mkdir(tools, { recursive: true })
  for (const pin of sdk.pins) await cp(join(place.work, pin), join(tools, pin))
  for (const command of sdk.install({ ...place, tools })) {
    await run('install', command, { ...place, tools }, '')
  }
  await writeFile(join(tools, 'installed'), '')
  return tools
}

/** Makes an SDK and uses it. @throws Failure. */
async function tryOut(sdk: Sdk, document: string, apiUrl: string): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), `sdk-${sdk.name}-`))
  try {
    await cp(join(root, 'test/sdks', sdk.name), work, { recursive: true })
    const tools = await installed(sdk, { work, document, root })
    const place: Place = { work, tools, document, root }
    const seconds: string[] = []
    for (const stage of ['generate', 'compile', 'use'] as const) {
      const startedAt = performance.now()
      for (const command of sdk[stage](place)) {
        const output = await run(stage, command, place, apiUrl)
        if (stage === 'generate') refuseWarnings(command, output)
      }
      seconds.push(`${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
    }
    return seconds.join(' | ')
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

function refuseWarnings({ command }: Command, output: string): void {
  const warnings = output
    .split('\n')
    .filter(
      (line) => /\bwarn(?:ing)?s?\b/i.test(line) && !ownWarnings.some((own) => own.test(line)),
    )
  if (warnings.length > 0) {
    throw new Failure('generate', command, 'warned about the document', warnings.join('\n'))
  }
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

const ends: (() => unknown)[] = []
const { url } = await startApp(
  { teardown: (end) => ends.push(end) },
  // A reply takes about a second, long enough to be left or stopped; an account keeps two chats.
  { ...embedded, ELIZA_PACE_MS: '20', RATE_LIMIT_USER_CHATS: '2' },
)
const document = join(await mkdtemp(join(tmpdir(), 'sdk-document-')), 'openapi.json')
await writeFile(document, await (await fetch(`${url}/openapi.json`)).text())

const rows: string[] = []
let failed = 0
for (const sdk of chosen) {
  console.log(`sdks: ${sdk.name}`)
  try {
    rows.push(`| ${sdk.generator} | ${await tryOut(sdk, document, url)} |`)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    failed += 1
    rows.push(`| ${sdk.generator} | FAILED: ${error.message.split('\n', 1)[0]} | | |`)
    console.error(`sdks: ${sdk.name}: ${error.message}`)
  }
}
for (const end of ends) await end()
await rm(join(document, '..'), { recursive: true, force: true })

console.log(['| SDK | generated | compiled | used |', '|---|---|---|---|', ...rows].join('\n'))
console.log(`sdks: ${chosen.length - failed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
