import type { LoggerOptions } from 'pino'
import type { Config } from './config.js'

/** Fields that are never logged, at the top of a line and up to two objects deep. */
const secretFields = [
  'authorization',
  'cookie',
  'password',
  'passwordHash',
  'token',
  'refreshToken',
  'secret',
  'JWT_SECRET',
  'MONGODB_URI',
  'REDIS_URL',
]

const redactedPaths = secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`])

/** Secrets by their look, wherever they stand in a line: a JWT, and a URL's user and password. */
const jwt = /\beyJ[\w-]{4,}\.[\w-]+\.[\w-]*/g
const urlCredentials = /(:\/\/)[^/@\s"\\]+@/g

const scrub = (line: string) =>
  line.replace(jwt, '[redacted]').replace(urlCredentials, '$1[redacted]@')

interface LoggedRequest {
  id: string
  method: string
  url: string
  ip: string
}

/** A request without its headers and query string, which may hold tokens. */
function requestFields({ id, method, url, ip }: LoggedRequest) {
  return { id, method, path: url.split('?', 1)[0], remoteAddress: ip }
}

interface LoggedError {
  type: string
  message: string
  stack: string
  /** `code`, `statusCode` and `cause`, where there are any. */
  [field: string]: unknown
}

/** What is told of an error: drivers hang their options, with passwords, on theirs. */
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

/** The logger's options: the level, and what keeps secrets out of every line. */
export function loggerOptions(config: Pick<Config, 'LOG_LEVEL'>) {
  return {
    level: config.LOG_LEVEL,
    redact: { paths: redactedPaths, censor: '[redacted]' },
    serializers: {
      req: requestFields,
      err: (error: unknown) => errorFields(error),
    },
    hooks: { streamWrite: scrub },
  } satisfies LoggerOptions
}
