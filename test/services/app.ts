import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { SignedIn } from '../../schemas/auth.js'
import { createApp } from '../../src/app.js'
import { parseConfig } from '../../src/config.js'
import { loggerOptions } from '../../src/logging.js'
import { patienceMs } from './eventually.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** Tests send more, and get longer replies, than a user may. */
const wideLimits = {
  MAX_NUM_PREDICT: '1048576',
  RATE_LIMIT_LOGIN_FAILURES: '1000000',
  RATE_LIMIT_CREDENTIALS_PER_MINUTE: '1000000',
  RATE_LIMIT_SOCKET_EVENTS_PER_SECOND: '1000000',
  RATE_LIMIT_USER_STREAMS: '1000000',
}

/** In the names of this process's databases: those of an earlier run have its users. */
const run = randomBytes(4).toString('hex')

/** Settings that choose the embedded parts, whatever the environment names. */
export const embedded = { MONGODB_URI: '', REDIS_URL: '' }

/**
 * The real services, where the environment names them: a database of MongoDB for each data
 * directory, so that apps share what they would share over SQLite, and one of Redis's for each
 * process.
 */
export function outsideServices(dataDir: string): Record<string, string> {
  const { MONGODB_URI, REDIS_URL } = process.env
  // MongoDB takes 63 characters.
  const database = `${basename(dataDir)
    .replace(/[^A-Za-z0-9]/g, '_')
    .slice(-50)}_${run}`
  return {
    ...(MONGODB_URI && {
      MONGODB_URI: MONGODB_URI.replace(/^([a-z+]+:\/\/[^/?]+)(?:\/[^?]*)?/, `$1/${database}`),
    }),
    ...(REDIS_URL && {
      REDIS_URL: REDIS_URL.replace(/^(rediss?:\/\/[^/?]+)\/?(?=\?|$)/, `$1/${process.pid % 16}`),
    }),
  }
}

/**
 * The whole app on a free port of 127.0.0.1, over a data directory of its own; ended with the test.
 * @param overrides settings by their environment variable. Two apps given one DATA_DIR share what
 *   they store; the directory given is then the caller's to remove.
 * @param prepare called before any plugin is loaded: the place for hooks such as `onRoute`.
 * @param options Fastify's own, such as a `logger` to read from.
 */
export async function startApp(
  t: Teardown,
  overrides: Readonly<Record<string, string>> = {},
  prepare: (app: ReturnType<typeof createApp>) => void = () => {},
  options: Parameters<typeof createApp>[1] = {},
) {
  const dataDir = overrides.DATA_DIR ?? (await mkdtemp(join(tmpdir(), 'chat-test-')))
  const config = parseConfig({
    NODE_ENV: 'test',
    PORT: '0',
    HOST: '127.0.0.1',
    LOG_LEVEL: 'silent',
    ELIZA_PACE_MS: '0',
    // The machine may be busy with other tests.
    START_TIMEOUT_MS: '120000',
    ...wideLimits,
    ...outsideServices(dataDir),
    ...overrides,
    DATA_DIR: dataDir,
  })
  const app = createApp(config, { logger: loggerOptions(config), ...options })
  prepare(app)
  const close = async () => {
    await app.close()
    if (overrides.DATA_DIR === undefined) await rm(dataDir, { recursive: true, force: true })
  }
  t.teardown(close)
  const url = await app.listen({ port: config.PORT, host: config.HOST })
  return { app, url, dataDir, close }
}

export interface Answer<T> {
  status: number
  headers: Headers
  /** The JSON parsed, the text where it is none, undefined where there is no body. */
  body: T
}

/** A caller of one server's JSON API: `const call = api(url, token)`, `await call('GET', '/…')`. */
export function api(url: string, token?: string) {
  return async <T = unknown>(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer<T>> => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(patienceMs),
    })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json')
    return {
      status: response.status,
      headers: response.headers,
      body: (text === '' ? undefined : isJson ? JSON.parse(text) : text) as T,
    }
  }
}

export const testPassword = 'correct horse battery staple'

/** Signs a new user up; two calls with no name, or with one name, make two users. */
export async function register(url: string, name = 'user') {
  const username = `${name}-${randomBytes(6).toString('hex')}`
  const { status, body } = await api(url)<SignedIn>('POST', '/api/auth/register', {
    username,
    email: `${username}@example.org`,
    password: testPassword,
  })
  if (status !== 201) throw new Error(`register answered ${status}: ${JSON.stringify(body)}`)
  const { token, refreshToken, user } = body
  return { token, refreshToken, user, headers: { authorization: `Bearer ${token}` } }
}
