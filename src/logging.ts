import type { LoggerOptions } from 'pino'
import type { Config } from './config.js'

type Fields = Record<string, unknown>

/** What is logged with: the methods of pino and of Fastify that are used, as they are used. */
export interface Log {
  info(fields: Fields, message: string): void
  warn(fields: Fields, message: string): void
  error(fields: Fields, message: string): void
}

/** Fields that are never logged, at the top level and up to two objects deep. */
const secretFields: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'password',
  'passwordHash',
  'token',
  'refreshToken',
  'secret',
  'JWT_SECRET',
  'OLLAMA_API_KEY',
  'MONGODB_URI',
  'REDIS_URL',
  'METRICS_TOKEN',
])

const isPlain = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype

/**
 * Redacts secret fields; returns the same object where there are none, as on most lines. pino's own
 * `redact` with the same depth takes ten times as long for each line.
 */
function withoutSecrets(fields: Fields, depth = 2): Fields {
  let shown = fields
  for (const [name, value] of Object.entries(fields)) {
    if (secretFields.has(name)) shown = { ...shown, [name]: '[redacted]' }
    else if (depth > 0 && isPlain(value)) {
      const inner = withoutSecrets(value, depth - 1)
      if (inner !== value) shown = { ...shown, [name]: inner }
    }
  }
  return shown
}

/** Secrets found by their form anywhere in a line: a JWT, and the credentials of a URL. */
const jwt = /\beyJ[\w-]{4,}\.[\w-]+\.[\w-]*/g
const urlCredentials = /(:\/\/)[^/@\s"\\]+@/g

/** Most lines contain neither, and a substring search is cheaper than the patterns. */
const scrub = (line: string) =>
  line.includes('eyJ') || line.includes('://')
    ? line.replace(jwt, '[redacted]').replace(urlCredentials, '$1[redacted]@')
    : line

interface LoggedRequest {
  id: string
  method: string
  url: string
  ip: string
}

/** A request's fields, without headers and query string: they may hold tokens. */
function requestFields({ id, method, url, ip }: LoggedRequest) {
  return { id, method, path: url.split('?', 1)[0], remoteAddress: ip }
}

interface LoggedError {
  type: string
  message: string
  stack: string
  /** `code`, `statusCode` and `cause`, if present. */
  [field: string]: unknown
}

/** An error's fields, picked by name: drivers attach options with passwords to their errors. */
function errorFields(error: unknown, depth = 0): LoggedError {
  if (!(error instanceof Error)) {
    return { type: typeof error, message: String(error), stack: '' }
  }
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown }
  return {
    type: error.name,
    message: error.message,
    stack: error.stack ?? '',
    ...(code !== undefined && { code }),
    ...(statusCode !== undefined && { statusCode }),
    ...(error.cause !== undefined && depth < 3 && { cause: errorFields(error.cause, depth + 1) }),
  }
}

/** The logger's options: the level, and the functions that keep secrets out of every line. */
export function loggerOptions(config: Pick<Config, 'LOG_LEVEL'>) {
  return {
    level: config.LOG_LEVEL,
    formatters: { log: (fields: Fields) => withoutSecrets(fields) },
    serializers: {
      req: requestFields,
      err: (error: unknown) => errorFields(error),
    },
    hooks: { streamWrite: scrub },
  } satisfies LoggerOptions
}
