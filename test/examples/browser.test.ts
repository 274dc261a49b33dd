import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, normalize } from 'node:path'
import t from 'tap'
import { startChromium, withoutChromium } from '../services/chromium.js'
import { buildClient, installWithSocketIo } from '../services/client-package.js'
import { patienceMs } from '../services/eventually.js'
import { freePort } from '../services/free-port.js'
import { startServer } from '../services/server-process.js'

const example = join(import.meta.dirname, '../../../examples/browser')

/** The example as its README installs it, served at an origin of its own. */
async function servedExample() {
  const folder = await mkdtemp(join(tmpdir(), 'chat-example-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const project = join(folder, 'examples/browser')
  await cp(example, project, { recursive: true })
  await buildClient(join(folder, 'dist/durable-chat-client'))
  await installWithSocketIo(project)
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const file = join(project, normalize(pathname === '/' ? '/index.html' : pathname))
    readFile(file).then(
      (content) => {
        const type = file.endsWith('.js') ? 'text/javascript' : 'text/html'
        response.setHeader('content-type', type).end(content)
      },
      () => response.writeHead(404).end(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test('browser/index.html', { skip: withoutChromium }, async (t) => {
  const origin = await servedExample()
  const dataDir = await mkdtemp(join(tmpdir(), 'chat-data-'))
  t.teardown(() => rm(dataDir, { recursive: true, force: true }))
  const settings = {
    DATA_DIR: dataDir,
    PORT: `${await freePort()}`,
    FRONTEND_URL: origin,
    ELIZA_PACE_MS: '100',
    LEASE_MS: '1000',
  }
  let server = await startServer(settings)
  t.teardown(() => server.end('SIGKILL'))
  const pageOf = (url: string) => `${origin}/?server=${encodeURIComponent(url)}`
  const context = await startChromium(t)
  context.setDefaultTimeout(patienceMs)

  t.test('shows a reply in two windows though the server is killed in the middle', async (t) => {
    const first = await context.newPage()
    await first.goto(pageOf(server.url))
    await first.waitForURL(/#[0-9a-f]{24}$/)
    const second = await context.newPage()
    await second.goto(first.url())
    await first.getByLabel('Message').fill('My computer never listens to me.')
    await first.getByRole('button', { name: 'Send' }).click()
    const replies = [first, second].map((page) => page.locator('li').nth(1))
    for (const reply of replies) await reply.getByText('computers worry').waitFor()
    await server.end('SIGKILL')
    await second.getByRole('status').getByText('NETWORK').waitFor()
    server = await startServer(settings)
    for (const reply of replies) await reply.getByText('Please continue.').waitFor()
    const [shown, alsoShown] = await Promise.all(replies.map((reply) => reply.textContent()))
    t.equal(shown, alsoShown)
    await second.reload()
    await replies[1]?.getByText('Please continue.').waitFor()
    t.equal(await replies[1]?.textContent(), shown)
  })

  t.test('says so when a setting is wrong', async (t) => {
    const wrong = await context.browser()?.newContext()
    const page = await wrong?.newPage()
    const said = async (url: string) => {
      await page?.goto(pageOf(url))
      const status = page?.getByRole('status')
      await status?.getByText(': ').waitFor()
      return status?.textContent()
    }
    t.match(await said('chat.example'), /^BAD_URL: `url` must be the server’s origin/)
    const nobody = `http://127.0.0.1:${await freePort()}`
    t.equal(await said(nobody), `NETWORK: ${nobody} cannot be reached.`)
  })
})
