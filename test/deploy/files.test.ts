import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { parseConfig, secretFiles, settings } from '../../src/config.js'

const run = promisify(execFile)
const deploy = join(import.meta.dirname, '../../../deploy')
const shipped = (name: string) => join(deploy, name)
const { TEST_HADOLINT, TEST_COMPOSE_GO, TEST_SYSTEMD_ANALYZE } = process.env
const defaultOf = (name: 'SHUTDOWN_GRACE_MS' | 'START_TIMEOUT_MS') =>
  Number(settings[name].fallback)

interface Service {
  image: string
  environment?: Record<string, string>
  secrets?: { source: string; target: string }[]
  cap_drop: string[]
  read_only: boolean
  security_opt: string[]
  mem_limit: string
  pids_limit: number
  stop_grace_period?: string
  tmpfs?: string[]
}

interface Compose {
  services: Record<string, Service>
  secrets: Record<string, { file: string }>
  configs: { upstream: { content: string } }
}

/** What Docker Compose's own loader makes of the file, its variables left as they are. */
async function loadCompose(): Promise<Compose> {
  const words = ['-no-interpolation', '-no-path-resolution', '-format', 'json']
  const { stdout } = await run(TEST_COMPOSE_GO ?? '', [...words, shipped('compose.yaml')])
  return JSON.parse(stdout) as Compose
}

t.test(
  'hadolint finds nothing in the Dockerfile',
  { skip: !TEST_HADOLINT && 'TEST_HADOLINT is not set' },
  async (t) => {
    await t.resolves(run(TEST_HADOLINT ?? '', ['--strict-labels', shipped('Dockerfile')]))
  },
)

t.test('compose.yaml', { skip: !TEST_COMPOSE_GO && 'TEST_COMPOSE_GO is not set' }, async (t) => {
  const { services, secrets, configs } = await loadCompose()
  const servers = Object.keys(services).filter((name) => name.startsWith('chat-'))

  t.test('every service has few rights and bounds', async (t) => {
    for (const [name, service] of Object.entries(services)) {
      t.match(
        service,
        {
          read_only: true,
          cap_drop: ['ALL'],
          security_opt: ['no-new-privileges:true'],
          mem_limit: String,
          pids_limit: Number,
        },
        name,
      )
      t.match(service.image, /^(durable-chat$|[^:]+:[\d.]+$)/, 'its version is chosen')
      for (const path of service.tmpfs ?? []) t.match(path, /^\//)
    }
  })

  t.test('nginx is given the three servers', async (t) => {
    const listed = [...configs.upstream.content.matchAll(/server (chat-\d):3000 /g)]
    t.same(
      listed.map(([, name]) => name),
      servers,
    )
    t.equal(servers.length, 3)
  })

  t.test('a server may take longer to end than SHUTDOWN_GRACE_MS', async (t) => {
    const seconds = Number.parseInt(services['chat-1']?.stop_grace_period ?? '', 10)
    t.ok(seconds * 1000 > defaultOf('SHUTDOWN_GRACE_MS'))
  })

  t.test('production takes what make-secrets.sh makes, and names what is missing', async (t) => {
    const folder = join(t.testdir(), 'secrets')
    await run(shipped('make-secrets.sh'), [folder])
    t.same(
      readdirSync(folder).sort(),
      Object.values(secrets)
        .map(({ file }) => file.replace('./secrets/', ''))
        .sort(),
    )
    t.equal(statSync(folder).mode & 0o777, 0o700)
    for (const name of servers) {
      const { environment = {}, secrets: mounted = [] } = services[name] ?? {}
      const paths = new Map(mounted.map(({ source, target }) => [target, join(folder, source)]))
      const inFiles = Object.entries(environment).filter(([name]) => name.endsWith('_FILE'))
      t.same(
        inFiles.map(([, path]) => path).sort(),
        [...paths.keys()].sort(),
        'each secret is read from where it is mounted',
      )
      const read = Object.fromEntries(inFiles.map(([name, path]) => [name, paths.get(path) ?? '']))
      for (const name of Object.keys(read)) t.ok(secretFiles.includes(name), name)
      const settings = { NODE_ENV: 'production', ...environment, PUBLIC_URL: 'https://a.example' }
      const literal = {
        ...settings,
        FRONTEND_URL: '',
        DEFAULT_MODEL: '',
        TRUST_PROXY: '1',
        ...read,
      }
      t.match(parseConfig(literal), { MONGODB_URI: /^mongodb:\/\/chat:.{64}@mongodb\// })
      for (const name of Object.keys(read)) {
        const without = { ...literal, [name]: join(folder, 'missing') }
        t.throws(() => parseConfig(without), { message: new RegExp(`- ${name} names a file`) })
      }
    }
  })

  t.test('secrets that are there are kept', async (t) => {
    const folder = join(t.testdir(), 'secrets')
    const content = () =>
      readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'))
    await run(shipped('make-secrets.sh'), [folder])
    const made = content()
    await run(shipped('make-secrets.sh'), [folder])
    t.same(content(), made)
  })

  t.test('without PUBLIC_URL it is refused, and named', async (t) => {
    const { PATH } = process.env
    const loading = run(TEST_COMPOSE_GO ?? '', [shipped('compose.yaml')], { env: { PATH } })
    const said = await loading.then(
      () => 'taken',
      ({ stderr }: { stderr: string }) => stderr,
    )
    t.match(said, /required variable PUBLIC_URL is missing a value: say where browsers reach nginx/)
  })
})

t.test(
  'systemd takes the unit, and finds it hardened',
  { skip: !TEST_SYSTEMD_ANALYZE && 'TEST_SYSTEMD_ANALYZE is not set' },
  async (t) => {
    const analyze = (...words: string[]) => run(TEST_SYSTEMD_ANALYZE ?? '', words)
    const folder = t.testdir()
    const unit = join(folder, 'durable-chat@3001.service')
    const text = readFileSync(shipped('durable-chat@.service'), 'utf8')
    // It looks whether the programs are there, and on this machine they may be elsewhere.
    mkdirSync(join(folder, 'bin'))
    for (const name of ['node', 'curl']) {
      writeFileSync(join(folder, 'bin', name), '')
      chmodSync(join(folder, 'bin', name), 0o755)
    }
    writeFileSync(unit, text.replaceAll('/usr/bin/', `${folder}/bin/`))
    const { stdout, stderr } = await analyze('verify', '--man=no', unit)
    t.equal(stdout + stderr, '')
    const security = await analyze('security', '--offline=true', '--threshold=30', unit)
    t.match(security.stdout, /Overall exposure level for durable-chat@3001\.service: [012]\./)
    const seconds = (name: string) => Number(new RegExp(`^${name}=(\\d+)$`, 'm').exec(text)?.[1])
    t.ok(seconds('TimeoutStopSec') * 1000 > defaultOf('SHUTDOWN_GRACE_MS'))
    t.ok(seconds('TimeoutStartSec') * 1000 > defaultOf('START_TIMEOUT_MS'))
  },
)

t.test('PM2 and nginx have the same servers, and PM2 waits for them long enough', async (t) => {
  const { apps } = createRequire(import.meta.url)(shipped('ecosystem.config.cjs')) as {
    apps: { env: { PORT: number }; kill_timeout: number; listen_timeout: number }[]
  }
  const upstream = readFileSync(shipped('nginx-upstream.conf'), 'utf8')
  const ports = [...upstream.matchAll(/server 127\.0\.0\.1:(\d+) /g)].map(([, port]) => port)
  t.same(
    apps.map(({ env }) => `${env.PORT}`),
    ports,
  )
  for (const { kill_timeout, listen_timeout } of apps) {
    t.ok(kill_timeout > defaultOf('SHUTDOWN_GRACE_MS'))
    t.ok(listen_timeout > defaultOf('START_TIMEOUT_MS'))
  }
})
