import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ConfigError, exampleSecret, parseConfig, settings } from '../src/config.js'

const root = join(import.meta.dirname, '../..')
const names = Object.keys(settings).sort()

t.test('the example, the parser and the README’s table name the same variables', async (t) => {
  const example = readFileSync(join(root, '.env.example'), 'utf8')
  t.same([...example.matchAll(/^([A-Z_0-9]+)=/gm)].map((match) => match[1]).sort(), names)
  for (const line of example.matchAll(/(^.*\n)^([A-Z_0-9]+)=/gm)) {
    t.ok(line[1]?.startsWith('# '), `${line[2]} is described`)
  }
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  t.same([...readme.matchAll(/^\| `([A-Z_0-9]+)` +\|/gm)].map((match) => match[1]).sort(), names)
  t.ok(example.includes(`JWT_SECRET=${exampleSecret}`))
})

t.test('the defaults of the example are those of the parser', async (t) => {
  const example = readFileSync(join(root, '.env.example'), 'utf8')
  for (const [, name, value] of example.matchAll(/^([A-Z_0-9]+)=(.*)$/gm)) {
    if (name === 'JWT_SECRET') continue
    const setting = settings[name as keyof typeof settings]
    t.equal(setting.fallback ?? '', value, `${name}`)
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

t.test('production wants a secret of its own', async (t) => {
  const production = { NODE_ENV: 'production' }
  t.throws(() => parseConfig(production), /JWT_SECRET is missing/)
  t.throws(() => parseConfig({ ...production, JWT_SECRET: 'short' }), /shorter than 32 bytes/)
  t.throws(() => parseConfig({ ...production, JWT_SECRET: exampleSecret }), /example/)
  t.equal(parseConfig({ ...production, JWT_SECRET: 'é'.repeat(16) }).JWT_SECRET, 'é'.repeat(16))
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
    t.throws(() => trusted(value), /TRUST_PROXY wants false, how many proxies .* networks/, value)
  }
})

t.test('PUBLIC_URL is an origin', async (t) => {
  const config = parseConfig({ PUBLIC_URL: 'https://Chat.example.org:443/path' })
  t.equal(config.PUBLIC_URL, 'https://chat.example.org')
  t.throws(() => parseConfig({ PUBLIC_URL: 'chat.example.org' }), /PUBLIC_URL wants a URL/)
})
