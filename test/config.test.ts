import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  ConfigError,
  exampleSecret,
  misnamedSettings,
  parseConfig,
  secretFiles,
  settings,
} from '../src/config.js'

const root = join(import.meta.dirname, '../..')
const names = Object.keys(settings).sort()

t.test(
  'the example, the parser and the table of docs/production.md name the same variables',
  async (t) => {
    const example = readFileSync(join(root, '.env.example'), 'utf8')
    const variables = [...example.matchAll(/^([A-Z_0-9]+)=/gm)].map((match) => match[1])
    t.same(variables.sort(), [...names, ...secretFiles].sort())
    for (const line of example.matchAll(/(^.*\n)^([A-Z_0-9]+)=/gm)) {
      t.ok(line[1]?.startsWith('# '), `${line[2]} is described`)
    }
    const production = readFileSync(join(root, 'docs/production.md'), 'utf8')
    const [, table = ''] = /^## Settings\n(.*?)^## /ms.exec(production) ?? []
    t.same([...table.matchAll(/^\| `([A-Z_0-9]+)` +\|/gm)].map((match) => match[1]).sort(), names)
    for (const name of secretFiles) t.ok(table.includes(`\`${name}\``), name)
    t.ok(example.includes(`JWT_SECRET=${exampleSecret}`))
  },
)

t.test('the defaults of the example are those of the parser', async (t) => {
  const example = readFileSync(join(root, '.env.example'), 'utf8')
  for (const [, name, value] of example.matchAll(/^([A-Z_0-9]+)=(.*)$/gm)) {
    if (name === 'JWT_SECRET') continue
    const fallback = settings[name as keyof typeof settings]?.fallback
    t.equal(fallback ?? '', value, `${name}`)
  }
})

t.test('everything wrong is said at once, without the values', async (t) => {
  try {
    parseConfig({
      NODE_ENV: 'production',
      PORT: '0x10',
      MONGODB_URI: 'http://user:canary-password@host',
      QUEUE_MAX: '-1',
      JWT_EXPIRES_IN: '1 fortnight',
      FRONTEND_URL: '*',
    })
    t.fail('it was accepted')
  } catch (error) {
    t.ok(error instanceof ConfigError)
    const { message } = error as ConfigError
    for (const name of [
      'PORT',
      'MONGODB_URI',
      'QUEUE_MAX',
      'JWT_EXPIRES_IN',
      'FRONTEND_URL',
      'JWT_SECRET',
    ]) {
      t.match(message, new RegExp(`- ${name} `), name)
    }
    t.notMatch(message, /canary-password/)
  }
})

t.test('production needs a secret of its own', async (t) => {
  const production = { NODE_ENV: 'production' }
  t.throws(() => parseConfig(production), /JWT_SECRET is missing/)
  t.throws(() => parseConfig({ ...production, JWT_SECRET: 'short' }), /shorter than 32 bytes/)
  const own = 'éèêëàâäùûüôöîïçñ'
  t.equal(parseConfig({ ...production, JWT_SECRET: own }).JWT_SECRET, own)
})

t.test('a secret of published examples is refused in production', async (t) => {
  for (const JWT_SECRET of [
    exampleSecret,
    'your_jwt_secret_key_change_in_production',
    'YOUR-JWT-SECRET-KEY-CHANGE-IN-PRODUCTION',
    'your-super-secret-jwt-token-with-at-least-32-characters-long',
    'a-string-secret-at-least-256-bits-long',
    'your-256-bit-secret-your-256-bit-secret',
    'please change me, I am not a secret at all',
    '16f8c0ef4a5d391b26034086c628469d3f9f497f08163ab9b40137092f2909ef',
    '404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970',
  ]) {
    const production = { NODE_ENV: 'production', JWT_SECRET }
    t.throws(() => parseConfig(production), /JWT_SECRET is an example’s/, JWT_SECRET)
    t.equal(parseConfig({ JWT_SECRET }).JWT_SECRET, JWT_SECRET, 'a developer may have it')
  }
})

t.test('a secret of few different characters is refused in production', async (t) => {
  for (const JWT_SECRET of [
    'x'.repeat(64),
    'abcabcabcabcabcabcabcabcabcabcabcabc',
    '01'.repeat(32),
  ]) {
    const production = { NODE_ENV: 'production', JWT_SECRET }
    t.throws(() => parseConfig(production), /fewer than 8 different characters/, JWT_SECRET)
  }
  for (const JWT_SECRET of ['0123456789abcdef'.repeat(4), '1234567890'.repeat(5)]) {
    const production = { NODE_ENV: 'production', JWT_SECRET }
    t.throws(() => parseConfig(production), /sequence that is easily guessed/, JWT_SECRET)
  }
  for (let n = 0; n < 100; n++) {
    const JWT_SECRET = randomBytes(16).toString('hex')
    t.equal(parseConfig({ NODE_ENV: 'production', JWT_SECRET }).JWT_SECRET, JWT_SECRET)
  }
})

t.test('a variable that resembles a setting is known for it, others are not', async (t) => {
  const rows = {
    OLLAMA_URL: 'OLLAMA_API_URL',
    OLLAMA_HOST: 'OLLAMA_API_URL',
    OLLAMA_BASE_URL: 'OLLAMA_API_URL',
    OLLAMA_API_BASE_URL: 'OLLAMA_API_URL',
    OLLAMA_API_URI: 'OLLAMA_API_URL',
    MONGO_URL: 'MONGODB_URI',
    MONGO_URI: 'MONGODB_URI',
    MONGODB_URL: 'MONGODB_URI',
    REDIS_URI: 'REDIS_URL',
    JWT_SECRET_KEY: 'JWT_SECRET',
    JWTSECRET: 'JWT_SECRET',
    JWT_EXPIRATION: 'JWT_EXPIRES_IN',
    CORS_ORIGIN: 'FRONTEND_URL',
    FRONTEND_URLS: 'FRONTEND_URL',
    LOGLEVEL: 'LOG_LEVEL',
    OLLAMA_MODEL: 'DEFAULT_MODEL',
    OLLAMA_IDLE_TIMEOUT: 'OLLAMA_IDLE_TIMEOUT_MS',
    node_env: 'NODE_ENV',
    METRICS_TOKN_FILE: 'METRICS_TOKEN_FILE',
  }
  for (const [name, setting] of Object.entries(rows)) {
    t.strictSame(misnamedSettings({ [name]: 'x' }), [{ name, setting }], name)
    t.strictSame(misnamedSettings({ [name]: 'x', [setting]: 'y' }), [], `${setting} is set`)
    t.strictSame(misnamedSettings({ [name]: '' }), [], 'it is empty')
  }
  const unrelated = 'PATH HOME HOSTNAME USER PAGER PWD LANG SHELL TERM TZ CI NODE_OPTIONS NODE_PATH'
  for (const name of `${unrelated} HTTP_PROXY DATABASE_URL JWT_SECRET_FILE OLLAMA_MODELS`.split(
    ' ',
  )) {
    t.strictSame(misnamedSettings({ [name]: 'x' }), [], name)
  }
  t.strictSame(misnamedSettings({ HOSTS: 'x' }), [], 'another program may read it')
  t.strictSame(misnamedSettings({ HOSTS: 'x' }, ['HOSTS']), [{ name: 'HOSTS', setting: 'HOST' }])
})

t.test('nothing needs to be set', async (t) => {
  const config = parseConfig({ MONGODB_URI: '' })
  t.match(config, { PORT: 3000, JWT_EXPIRES_IN: 3600, FRONTEND_URL: ['http://localhost:5173'] })
  t.equal(config.MONGODB_URI, undefined)
})

t.test('lists of origins and of MongoDB hosts are taken', async (t) => {
  const config = parseConfig({
    FRONTEND_URL: 'http://localhost:5173, https://chat.example.org/',
    MONGODB_URI: 'mongodb://a:b@h1:27017,h2:27017/chat?replicaSet=rs0&tls=true',
  })
  t.same(config.FRONTEND_URL, ['http://localhost:5173', 'https://chat.example.org'])
  t.match(config.MONGODB_URI, /h2:27017/)
})

t.test('a % in credentials that begins no escape is named, and what to write for it', async (t) => {
  for (const [name, value] of [
    ['MONGODB_URI', 'mongodb://me:50%secret@localhost/chat'],
    ['REDIS_URL', 'redis://:100%@localhost:6379'],
    ['REDIS_URL', 'redis://:%ff@localhost:6379,redis://localhost:6380'],
    ['OLLAMA_API_URL', 'http://me:%zz@localhost:11434'],
  ] as const) {
    t.throws(() => parseConfig({ [name]: value }), { message: new RegExp(`${name} .*%25`) }, value)
  }
  t.doesNotThrow(() => parseConfig({ REDIS_URL: 'redis://:a%25b@localhost:6379' }))
})

t.test('TRUST_PROXY is false, a number of proxies, or their networks', async (t) => {
  const trusted = (TRUST_PROXY: string) => parseConfig({ TRUST_PROXY }).TRUST_PROXY
  t.equal(trusted(''), false)
  t.equal(trusted('false'), false)
  t.equal(trusted('2'), 2)
  t.same(trusted('10.0.0.0/8, ::1,fd00::/8'), ['10.0.0.0/8', '::1', 'fd00::/8'])
  for (const value of [
    'true',
    '0',
    '-1',
    '1.5',
    '10.0.0.0/33',
    'fd00::/129',
    '10.0.0.0/',
    'nginx',
    '10.0.0.1,,',
  ]) {
    t.throws(() => trusted(value), /TRUST_PROXY must be false, how many proxies .* networks/, value)
  }
})

t.test('PUBLIC_URL is an origin', async (t) => {
  const config = parseConfig({ PUBLIC_URL: 'https://Chat.example.org:443/path' })
  t.equal(config.PUBLIC_URL, 'https://chat.example.org')
  t.throws(() => parseConfig({ PUBLIC_URL: 'chat.example.org' }), /PUBLIC_URL must be a URL/)
})
