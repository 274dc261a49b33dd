import { spawn } from 'node:child_process'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'
import type { Page } from 'playwright-core'
import t from 'tap'
import { startChromium, withoutChromium } from '../../services/chromium.js'
import { buildClient, installWithSocketIo, run } from '../../services/client-package.js'
import { eventually } from '../../services/eventually.js'
import { freePort } from '../../services/free-port.js'
import { standInReply, startStandIn } from '../../services/ollama-stand-in.js'
import { startServer } from '../../services/server-process.js'

const root = join(import.meta.dirname, '../../../..')
const prompts = ['len=300 rate=50', 'len=5'] as const
const texts = prompts.flatMap((prompt) => [prompt, standInReply(prompt)])

/** An empty project that has installed the package as npm packs it. */
async function installedProject() {
  const folder = await mkdtemp(join(tmpdir(), 'chat-project-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await buildClient(join(folder, 'built'))
  const packed = await run(folder, 'npm', 'pack', './built', '--json')
  const [{ filename }] = JSON.parse(packed.stdout)
  const project = join(folder, 'project')
  await cp(join(root, 'test/web/client/project'), project, { recursive: true })
  await writeFile(join(project, 'package.json'), '{"private": true}')
  await installWithSocketIo(project, `../${filename}`)
  return project
}

const project = await installedProject()

t.test('nothing is installed but the package and socket.io-client', async (t) => {
  const { stdout } = await run(project, 'npm', 'ls', '--json')
  t.same(Object.keys(JSON.parse(stdout).dependencies).sort(), [
    'durable-chat-client',
    'socket.io-client',
  ])
})

for (const [module, moduleResolution] of [
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
] as const) {
  t.test(`a strict program is right under ${moduleResolution}`, async (t) => {
    const compilerOptions = {
      module,
      moduleResolution,
      target: 'es2022',
      lib: ['es2023', 'dom', 'dom.asynciterable'],
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      // Declarations that import what is not installed fail.
      skipLibCheck: false,
      outDir: 'out',
      sourceMap: false,
    }
    const file = join(project, `tsconfig.${moduleResolution}.json`)
    await writeFile(file, JSON.stringify({ compilerOptions, include: ['*.mts'] }))
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { stdout } = await run(project, process.execPath, tsc, '-p', file).catch(
      (error: { stdout: string }) => error,
    )
    t.equal(stdout, '')
  })
}

/** A page that loads the bundled program, from an origin of its own. */
async function servePage() {
  const { outputFiles } = await build({
    absWorkingDir: project,
    entryPoints: ['page.mts'],
    bundle: true,
    format: 'esm',
    write: false,
  })
  const page = createServer(({ url }, response) => {
    const isScript = url === '/page.js'
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html')
    response.end(
      isScript ? outputFiles[0]?.contents : '<body><script type="module" src="/page.js"></script>',
    )
  })
  await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    page.closeAllConnections()
    page.close()
  })
  return `http://127.0.0.1:${(page.address() as AddressInfo).port}`
}

/** Runs the program in Node; `said` gives its last line that begins with a word. */
function runInNode(url: string) {
  const code = `import('./out/node.mjs').then(({ run }) =>
    run('${url}', 'node', ${JSON.stringify(prompts)}, (line) => console.log(line)))`
  const child = spawn(process.execPath, ['-e', code], {
    cwd: project,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const said = new Map<string, string>()
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  createInterface({ input: child.stdout }).on('line', (line) => {
    const space = line.indexOf(' ')
    said.set(line.slice(0, space), line.slice(space + 1))
  })
  return {
    said(word: string) {
      if (child.exitCode) throw new Error(`the program ended with ${child.exitCode}`)
      return said.get(word)
    },
    ended,
  }
}

/** What a page shows; it fails as the page does. */
async function shown(page: Page, word: string): Promise<string | undefined> {
  const dataset = await page.evaluate<Record<string, string>>('({ ...document.body.dataset })')
  const { failure, ...state } = dataset
  if (failure) throw new Error(failure)
  return state[word]
}

/** The refresh tokens that a page exchanged, each time with success. */
function exchanged(page: Page): string[] {
  const tokens: string[] = []
  page.on('response', (response) => {
    const request = response.request()
    if (request.method() !== 'POST' || !request.url().endsWith('/api/auth/refresh')) return
    if (response.ok()) tokens.push(request.postDataJSON().refreshToken)
  })
  return tokens
}

t.test(
  'Node and two windows of Chromium converse through a killed server and expired tokens',
  { skip: withoutChromium },
  async (t) => {
    const standIn = await startStandIn()
    t.teardown(() => standIn.close())
    const origin = await servePage()
    const dataDir = await mkdtemp(join(tmpdir(), 'chat-data-'))
    t.teardown(() => rm(dataDir, { recursive: true, force: true }))
    const settings = {
      DATA_DIR: dataDir,
      PORT: `${await freePort()}`,
      OLLAMA_API_URL: standIn.url,
      FRONTEND_URL: origin,
      JWT_EXPIRES_IN: '3s',
      LEASE_MS: '1000',
      RATE_LIMIT_CREDENTIALS_PER_MINUTE: '1000',
    }
    let server = await startServer(settings)
    t.teardown(() => server.end('SIGKILL'))
    const { url } = server

    const context = await startChromium(t)
    const open = async (options: object) => {
      const page = await context.newPage()
      page.on('pageerror', (error) => t.comment(error.stack))
      const tokens = exchanged(page)
      await page.goto(`${origin}/#${encodeURIComponent(JSON.stringify({ url, ...options }))}`)
      return { page, tokens }
    }

    const node = runInNode(url)
    const first = await open({ name: 'page', prompts })
    await eventually('a chat', async () => (await shown(first.page, 'chat')) !== undefined)
    const second = await open({ chat: await shown(first.page, 'chat') })
    const pages = [first.page, second.page]
    const isSeen = (text = '0') => Number(text) > 100
    await eventually('text everywhere', async () => {
      const lengths = await Promise.all(pages.map((page) => shown(page, 'text')))
      return [...lengths, node.said('text')].every(isSeen)
    })
    await server.end('SIGKILL')
    await eventually('all know', async () => {
      const state = await shown(first.page, 'connection')
      return state === 'connecting' && node.said('connection') === 'connecting'
    })
    server = await startServer(settings)

    t.equal(await node.ended, 0)
    const outcomes = [node.said('outcome')]
    for (const page of pages) {
      await eventually('the outcome', async () => (await shown(page, 'outcome')) !== undefined)
      outcomes.push(await shown(page, 'outcome'))
    }
    for (const outcome of outcomes) {
      t.same(JSON.parse(outcome ?? '{}'), { shown: texts, stored: texts })
    }
    const renewed = () => [...first.tokens, ...second.tokens]
    await eventually('six renewals', () => renewed().length >= 6)
    t.equal(new Set(renewed()).size, renewed().length, 'the windows never renew the same token')
  },
)
