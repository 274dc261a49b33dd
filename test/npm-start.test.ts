import {
  appendFile,
  cp,
  mkdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t from 'tap'
import { isThere } from './services/is-there.js'
import { checkout, listeningAt, runScript } from './services/npm-script.js'
import { startServer } from './services/server-process.js'

const root = join(import.meta.dirname, '../..')

t.test('SIGTERM to npm start ends the server, which frees its port and its data', async (t) => {
  const copy = await checkout(t)
  const { printed, end, heard } = runScript(t, copy, 'start')
  const line = await printed('Server listening')
  const url = listeningAt(line)
  const { pid } = JSON.parse(line)
  t.equal(await end('SIGTERM'), 0)
  t.notOk(isThere(pid), 'npm waited for the server')
  t.match(heard.join('\n'), '"signal":"SIGTERM","msg":"shutting down"')
  await t.rejects(fetch(`${url}/health/live`), 'nobody has the port')
  const next = await startServer({ DATA_DIR: join(copy, 'data') })
  t.equal(await next.end('SIGTERM'), 0, 'the next has the data')
})

t.test('three npm start at once in one checkout all serve', async (t) => {
  const copy = await checkout(t)
  const servers = ['a', 'b', 'c'].map((name) =>
    runScript(t, copy, 'start', { DATA_DIR: join(copy, name) }),
  )
  const lines = await Promise.all(servers.map(({ printed }) => printed('Server listening')))
  for (const line of lines) {
    t.equal((await fetch(`${listeningAt(line)}/health/ready`)).status, 200)
  }
  for (const { end } of servers) t.equal(await end('SIGTERM'), 0)
})

t.test('npm start writes only what changed, and loads no file whose source is gone', async (t) => {
  const copy = await checkout(t)
  const compiled = (path: string) => join(copy, 'dist', path)
  async function compile() {
    const server = runScript(t, copy, 'start')
    await server.printed('Server listening')
    t.equal(await server.end('SIGTERM'), 0)
  }
  await compile()
  const before = await stat(compiled('src/app.js'))
  await writeFile(compiled('plugins/broken.js'), "throw new Error('loaded')\n")
  await appendFile(join(copy, 'src/ids.ts'), '\nexport const changed = true\n')
  // As of a file that was unpacked.
  await utimes(join(copy, 'src/ids.ts'), 1, 1)
  await compile()
  t.equal((await stat(compiled('src/app.js'))).mtimeMs, before.mtimeMs, 'the same is left alone')
  t.match(await readFile(compiled('src/ids.js'), 'utf8'), 'changed', 'the changed is replaced')
  await t.rejects(stat(compiled('plugins/broken.js')), 'the stale is gone')
})

t.test('npm run start:prod serves without development packages, and ends on SIGTERM', async (t) => {
  const copy = await checkout(t)
  const { dependencies } = JSON.parse(await readFile(join(copy, 'package.json'), 'utf8'))
  await rm(join(copy, 'node_modules'))
  for (const name of Object.keys(dependencies)) {
    const link = join(copy, 'node_modules', name)
    await mkdir(dirname(link), { recursive: true })
    await symlink(join(root, 'node_modules', name), link)
  }
  for (const folder of ['src', 'plugins', 'routes', 'schemas', 'web', 'page']) {
    await cp(join(root, 'dist', folder), join(copy, 'dist', folder), { recursive: true })
    await rm(join(copy, folder), { recursive: true, force: true })
  }
  const { printed, end } = runScript(t, copy, 'start:prod')
  const url = listeningAt(await printed('Server listening'))
  t.equal((await fetch(`${url}/health/ready`)).status, 200)
  t.match(await (await fetch(url)).text(), '/assets/main-', 'the page too')
  t.equal(await end('SIGTERM'), 0)
})
