import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { exposedFiles, holdDataDir, keptSecret } from '../../src/stores/data-dir.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import { aChat, aTurn } from './rows.js'

const compiled = (path: string) =>
  JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)

/** Another process that runs `body` as a module, with `dir` and the data directory's functions. */
function child(t: Test, dir: string, body: string) {
  const script = `
    import { holdDataDir, keptSecret } from ${compiled('stores/data-dir.js')}
    import { openSqliteStore } from ${compiled('stores/sqlite.js')}
    const dir = ${JSON.stringify(dir)}
    ${body}`
  const args = ['--input-type=module', '-e', script]
  // Without tap's loaders, which would outlive a kill -9 in its records.
  const env = { ...process.env, NODE_OPTIONS: '' }
  const started = spawn(process.execPath, args, { env, stdio: ['pipe', 'pipe', 'pipe'] })
  t.teardown(() => started.kill('SIGKILL'))
  return started
}

/** The first line that `process` writes. */
async function lineOf(process: ChildProcess): Promise<string> {
  if (!process.stdout) throw new Error('its output is not piped')
  const [line] = await once(createInterface(process.stdout), 'line')
  return line
}

/** Holds `dir` until its input ends; says so. */
const holding = `
  const hold = holdDataDir(dir)
  process.stdin.resume()
  process.stdin.on('end', () => hold.release())
  console.log('held')`

t.test('a directory is made for its user alone and given back', async (t) => {
  const dir = join(t.testdir(), 'a', 'data')
  const hold = holdDataDir(dir)
  t.equal(statSync(dir).mode & 0o777, 0o700)
  t.match(JSON.parse(readFileSync(join(dir, 'server.pid'), 'utf8')), { pid: process.pid })
  hold.release()
  hold.release()
  t.notOk(existsSync(join(dir, 'server.pid')))
  holdDataDir(dir).release()
})

t.test('a process that holds it is refused a second hold, by whatever path', async (t) => {
  const root = t.testdir({ data: {} })
  symlinkSync(join(root, 'data'), join(root, 'link'))
  const hold = holdDataDir(join(root, 'data'))
  const refused = { message: new RegExp(`in use by process ${process.pid}`) }
  t.throws(() => holdDataDir(join(root, 'data')), refused)
  t.throws(() => holdDataDir(join(root, 'link')), refused)
  const second = child(t, join(root, 'data'), 'holdDataDir(dir)')
  const [code] = await once(second, 'exit')
  t.equal(code, 1, 'the refused attempts have not opened the lock to others')
  hold.release()
  holdDataDir(join(root, 'link')).release()
})

t.test('a second process is told who holds it and what to do', async (t) => {
  const dir = t.testdir()
  const before = Date.now()
  const first = child(t, dir, holding)
  t.equal(await lineOf(first), 'held')
  const { startedAt } = JSON.parse(readFileSync(join(dir, 'server.pid'), 'utf8'))
  const at = Date.parse(startedAt)
  t.ok(at >= before - 1 && at <= Date.now(), startedAt)
  t.throws(() => holdDataDir(dir), {
    message:
      `The data directory ${dir} is in use by process ${first.pid}, started ${startedAt}. Stop ` +
      'that process, or set DATA_DIR to another directory for this one.',
  })
  first.stdin?.end()
  const [code] = await once(first, 'exit')
  t.equal(code, 0)
  holdDataDir(dir).release()
})

t.test('of two processes that start at once, one holds it', async (t) => {
  const dir = t.testdir()
  const both = [child(t, dir, holding), child(t, dir, holding)]
  const fates = await Promise.all(
    both.map((process) => Promise.race([lineOf(process), once(process, 'exit').then(String)])),
  )
  t.strictSame(fates.sort(), ['1,', 'held'])
})

t.test('after kill -9 it is held again at once, and what was acknowledged is there', async (t) => {
  const dir = t.testdir()
  const chat = aChat()
  const turn = aTurn(chat)
  const revive = `(name, value) => (/At$|Until$/.test(name) ? new Date(value) : value)`
  const process = child(
    t,
    dir,
    `holdDataDir(dir)
    const store = openSqliteStore(dir)
    await store.createChat(JSON.parse(${JSON.stringify(JSON.stringify(chat))}, ${revive}))
    await store.appendTurn(JSON.parse(${JSON.stringify(JSON.stringify(turn))}, ${revive}))
    console.log('stored')
    setInterval(() => {}, 1000)`,
  )
  t.equal(await lineOf(process), 'stored')
  process.kill('SIGKILL')
  await once(process, 'exit')
  t.ok(existsSync(join(dir, 'server.pid')), 'it could not clear up')

  const hold = holdDataDir(dir)
  const store = openSqliteStore(dir)
  const reply = { ...turn.reply, seq: 2, leaseUntil: new Date(0) }
  t.strictSame(await store.listMessages(chat.id, 10), [{ ...turn.message, seq: 1 }, reply])
  t.strictSame(await store.findLapsedReplies(new Date(), 10), [reply])
  await store.close()
  hold.release()
})

t.test('a stale or unreadable pid file harms nothing', async (t) => {
  const dir = t.testdir({ 'server.pid': 'not JSON' })
  const hold = holdDataDir(dir)
  writeFileSync(join(dir, 'server.pid'), '')
  t.throws(() => holdDataDir(dir), { message: /in use by another process/ })
  hold.release()
})

t.test('a directory that cannot be used is refused by name', async (t) => {
  const root = t.testdir({ file: 'in the way' })
  for (const dir of [join(root, 'file'), join(root, 'file', 'below')]) {
    const refused = { message: new RegExp(`The data directory ${dir} cannot be used: .*DATA_DIR`) }
    t.throws(() => holdDataDir(dir), refused)
    t.throws(() => keptSecret(dir), refused)
  }
  mkdirSync(join(root, 'taken', 'server.pid'), { recursive: true })
  t.throws(() => holdDataDir(join(root, 'taken')), { message: /cannot be used: EISDIR/ })
})

t.test('its files are this user’s alone, also in a directory that was open to all', async (t) => {
  const dir = t.testdir()
  chmodSync(dir, 0o777)
  const umask = process.umask(0)
  t.teardown(() => process.umask(umask))
  const open = async (look: () => void) => {
    keptSecret(dir)
    const hold = holdDataDir(dir)
    const store = openSqliteStore(dir)
    await store.createChat(aChat())
    look()
    await store.close()
    hold.release()
  }
  const names = [
    ...['chat.db', 'chat.db-shm', 'chat.db-wal'],
    ...['jwt-secret', 'lock.db', 'lock.db-journal', 'server.pid'],
  ]
  const areAlone = () => {
    t.strictSame(readdirSync(dir).sort(), names)
    for (const name of names) t.equal(statSync(join(dir, name)).mode & 0o777, 0o600, name)
    t.strictSame(exposedFiles(dir), [])
  }
  await open(areAlone)
  for (const name of readdirSync(dir)) chmodSync(join(dir, name), 0o644)
  t.ok(exposedFiles(dir).includes('chat.db'))
  await open(areAlone)
})

t.test('a secret is made once, for its user alone', async (t) => {
  const dir = join(t.testdir(), 'data')
  const secret = keptSecret(dir)
  t.match(secret, /^[\w-]{64}$/)
  t.equal(statSync(join(dir, 'jwt-secret')).mode & 0o777, 0o600)
  t.equal(keptSecret(dir), secret)
  t.not(keptSecret(join(dir, 'other')), secret)
})

t.test('processes that start at once get the same secret', async (t) => {
  const dir = t.testdir()
  const all = [1, 2, 3, 4].map(() => child(t, dir, 'console.log(keptSecret(dir))'))
  const secrets = await Promise.all(all.map(lineOf))
  t.equal(new Set([...secrets, keptSecret(dir)]).size, 1)
})

t.test('a kept secret that is too short is refused, not replaced', async (t) => {
  const dir = t.testdir({ 'jwt-secret': 'short\n' })
  t.throws(() => keptSecret(dir), { message: /jwt-secret holds no secret.*set JWT_SECRET/s })
  t.equal(readFileSync(join(dir, 'jwt-secret'), 'utf8'), 'short\n')
})
