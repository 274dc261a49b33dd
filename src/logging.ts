import pino, { type LoggerOptions } from 'pino'
import type { Config } from './config.js'
import { within } from './within.js'

type Fields = Record<string, unknown>

/** Fields that are never logged, at the top of a line and up to two objects deep. */
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

/** A line's fields without what is secret: the same object where nothing is, as on most lines. */
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

/** Secrets by their look, wherever they stand in a line: a JWT, and a URL's user and password. */
const jwt = /\beyJ[\w-]{4,}\.[\w-]+\.[\w-]*/g
const urlCredentials = /(:\/\/)[^/@\s"\\]+@/g

/** Most lines have neither, which is seen at a fraction of what the patterns cost. */
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
    formatters: { log: (fields: Fields) => withoutSecrets(fields) },
    serializers: {
      req: requestFields,
      err: (error: unknown) => errorFields(error),
    },
    hooks: { streamWrite: scrub },
  } satisfies LoggerOptions
}

/**
 * Standard output, written in pieces: a line by itself costs a fifth of a request. A line waits at
 * most a tenth of a second, and none is lost but by SIGKILL; where nobody reads, new ones are.
 */
export function logOutput() {
  const output = pino.destination({
    dest: 1,
    sync: false,
    minLength: 4096,
    periodicFlush: 100,
    maxLength: 4 * 1024 * 1024,
  })
  // A reader that goes with lines unread resets a socket. pino knows how to go on after EPIPE alone.
  output.prependListener('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') error.code = 'EPIPE'
  })
  return output
}

/** How long the process's last lines may wait for a reader, in milliseconds. */
const lastLinesMs = 1000

/**
 * Writes what is left, as the last before the process ends. One whose reader has stopped reading
 * would never end: the line that waits keeps a thread of it, so it kills itself after a second.
 */
export async function endLog(output: ReturnType<typeof logOutput>): Promise<void> {
  const written = new Promise<true>((resolve) => {
    // Where nobody is there to read, nothing is left to do either.
    output.flush(() => resolve(true))
  })
  if (!(await within(written, lastLinesMs))) process.kill(process.pid, 'SIGKILL')
}
