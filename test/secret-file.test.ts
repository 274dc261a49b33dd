import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError, parseConfig, secretFiles } from '../src/config.js'
import { startRefused } from './services/server-process.js'

/** It must never be printed, wherever it is. */
const canary = 'canary-Zk3vQ9xW7pL2mN8rT5yB1dF6'

function secretFile(t: Test, content: string | Buffer): string {
  const path = join(t.testdir(), 'secret')
  writeFileSync(path, content)
  return path
}

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    parseConfig(environment)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

const values: Readonly<Record<string, string>> = {
  JWT_SECRET: canary,
  MONGODB_URI: `mongodb://chat:${canary}@localhost/chat`,
  REDIS_URL: `redis://:${canary}@localhost:6379`,
  OLLAMA_API_KEY: canary,
  METRICS_TOKEN: canary,
}

t.test('every secret may be in a file', async (t) => {
  t.same(
    [...secretFiles].sort(),
    Object.keys(values)
      .map((name) => `${name}_FILE`)
      .sort(),
  )
  for (const [name, value] of Object.entries(values)) {
    for (const end of ['', '\n', '\r\n']) {
      const config = parseConfig({ [`${name}_FILE`]: secretFile(t, value + end) })
      t.equal(config[name as keyof typeof config], value, `${name} and ${JSON.stringify(end)}`)
    }
  }
})

t.test('only the last newline of a secret’s file is cut', async (t) => {
  const file = secretFile(t, ` a\nb \n\n`)
  t.equal(parseConfig({ JWT_SECRET_FILE: file }).JWT_SECRET, ' a\nb \n')
})

t.test('an empty _FILE counts as not set', async (t) => {
  t.equal(parseConfig({ JWT_SECRET_FILE: '', JWT_SECRET: canary }).JWT_SECRET, canary)
  t.match(problemsOf({ NODE_ENV: 'production', JWT_SECRET_FILE: '' }), [/^JWT_SECRET is missing/])
})

t.test('a secret and its file may not both be set', async (t) => {
  const JWT_SECRET_FILE = secretFile(t, canary)
  t.strictSame(problemsOf({ NODE_ENV: 'production', JWT_SECRET: canary, JWT_SECRET_FILE }), [
    'JWT_SECRET and JWT_SECRET_FILE are both set: unset one of them',
  ])
})

t.test('a file that cannot be used is named by its setting alone', async (t) => {
  const folder = t.testdir()
  const at = (name: string) => join(folder, name)
  mkdirSync(at('directory'))
  writeFileSync(at('empty'), '')
  writeFileSync(at('newline'), '\n')
  writeFileSync(at('latin1'), Buffer.from(`${canary}é`, 'latin1'))
  writeFileSync(at('large'), canary.repeat(10_000))
  execFileSync('mkfifo', [at('pipe')])
  const rows: readonly [path: string, problem: RegExp][] = [
    // Who mistakes what the variable is for writes the secret there.
    [canary, /that this process cannot read \(ENOENT\)$/],
    [`/${canary}\0`, /that this process cannot read \(ERR_INVALID_ARG_VALUE\)$/],
    [at('missing'), /that this process cannot read \(ENOENT\)$/],
    [at('directory'), /names a directory: Docker makes one/],
    [at('empty'), /is empty$/],
    [at('newline'), /is empty$/],
    [at('latin1'), /is not UTF-8 text$/],
    [at('large'), /of more than 65536 bytes$/],
    [at('pipe'), /is not a regular file$/],
  ]
  for (const name of secretFiles) {
    for (const [path, problem] of rows) {
      const problems = problemsOf({ [name]: path })
      t.match(
        problems,
        [new RegExp(`^${name} .*${problem.source}`)],
        `${name}=${JSON.stringify(path)}`,
      )
      t.notMatch(problems.join('\n'), canary)
    }
  }
})

t.test('what a file holds is validated as the setting is, and not printed', async (t) => {
  t.match(problemsOf({ MONGODB_URI_FILE: secretFile(t, canary) }), [
    /^MONGODB_URI of MONGODB_URI_FILE must be a URL that begins with mongodb:/,
  ])
  t.notMatch(problemsOf({ METRICS_TOKEN_FILE: secretFile(t, `${canary} ${canary}`) })[0], canary)
  t.match(problemsOf({ NODE_ENV: 'production', JWT_SECRET_FILE: secretFile(t, 'short') }), [
    /^JWT_SECRET is shorter than 32 bytes/,
  ])
})

t.test('a server whose secret’s file is missing refuses to start, and says which', async (t) => {
  const { status, output } = await startRefused({
    NODE_ENV: 'production',
    DATA_DIR: t.testdir(),
    JWT_SECRET_FILE: '/run/secrets/jwt_secret',
    REDIS_URL_FILE: '/run/secrets/redis_url',
  })
  t.equal(status, 1)
  t.strictSame(
    output.split('\n').filter((line) => line.startsWith('  - ')),
    [
      '  - REDIS_URL_FILE names a file that this process cannot read (ENOENT)',
      '  - JWT_SECRET_FILE names a file that this process cannot read (ENOENT)',
    ],
  )
})
