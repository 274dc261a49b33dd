import { isUtf8 } from 'node:buffer'
import { isIP } from 'node:net'
import { parseEnv } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import { differentSteps } from './auth/weak-passwords.js'
import { readSecretFile } from './secret-file.js'

type Environment = Readonly<Record<string, string | undefined>>

interface Setting<T> {
  /** The default, written as the environment would write it. */
  fallback: string | undefined
  /** @throws Error whose message says which values are valid. */
  parse: (text: string) => T
  /** A secret may be in a file, which the variable of the same name and `_FILE` names. */
  isSecret: boolean
}

const text = (pattern: RegExp, expected: string) => (value: string) => {
  if (!pattern.test(value)) throw new Error(`must be ${expected}`)
  return value
}

/** Checks escapes now: later, when credentials are used, the error would name no setting. */
function refuseBadEscapes(value: string): void {
  try {
    decodeURIComponent(value)
  } catch {
    throw new Error('has a % that begins no valid escape: a % of a password is written %25')
  }
}

const integer = (min: number, max: number) => (value: string) => {
  const number = Number(value)
  if (!/^\d+$/.test(value) || number < min || number > max) {
    throw new Error(`must be a whole number from ${min} to ${max}`)
  }
  return number
}

const url =
  (...protocols: string[]) =>
  (value: string) => {
    const parsed = URL.canParse(value) ? new URL(value) : undefined
    // A MongoDB URI may list several hosts, which URL does not parse.
    const protocol = parsed?.protocol ?? /^(mongodb(?:\+srv)?:)\/\/[^/]+/.exec(value)?.[1]
    if (!protocol || !protocols.includes(protocol)) {
      throw new Error(
        `must be a URL that begins with ${protocols.map((p) => `${p}//`).join(' or ')}`,
      )
    }
    refuseBadEscapes(value)
    return value
  }

/** The URLs in REDIS_URL: one for a single Redis, several for a cluster. */
export const redisUrls = (value: string) =>
  value.split(/,(?=rediss?:\/\/)/).map((part) => part.trim())

const redis = (value: string) => {
  const urls = redisUrls(value)
  const isRedis = urls.every((part) => URL.canParse(part) && /^rediss?:\/\/./.test(part))
  // A cluster has no numbered databases.
  if (!isRedis || (urls.length > 1 && urls.some((part) => new URL(part).pathname.length > 1))) {
    throw new Error(
      'must be a URL that begins with redis:// or rediss://, or for a cluster several of ' +
        'redis://host:port, separated by commas',
    )
  }
  refuseBadEscapes(value)
  return value
}

const origin = (expected: string) => (value: string) => {
  const trimmed = value.trim()
  if (!URL.canParse(trimmed) || !/^https?:/.test(trimmed)) throw new Error(`must be ${expected}`)
  return new URL(trimmed).origin
}

const origins = (value: string) =>
  value.split(',').map(origin('origins such as https://chat.example.org, separated by commas'))

const isNetwork = (text: string) => {
  const [address = '', bits = '0', ...rest] = text.split('/')
  const most = isIP(address) === 4 ? 32 : 128
  return isIP(address) !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= most && rest.length === 0
}

const trustedProxies = (value: string): false | number | string[] => {
  if (value === 'false') return false
  if (/^[1-9]\d?$/.test(value)) return Number(value)
  const networks = value.split(',').map((part) => part.trim())
  if (networks.every(isNetwork)) return networks
  throw new Error(
    'must be false, how many proxies are in front (1 behind deploy/nginx.conf), or their addresses ' +
      'or networks, separated by commas (10.0.0.0/8); true would let each client choose its address',
  )
}

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

const duration = (value: string) => {
  const match = /^(\d{1,9})([smhd]?)$/.exec(value)
  const seconds = match ? Number(match[1]) * (unitSeconds[match[2] || 's'] ?? 1) : 0
  if (seconds < 1 || seconds > 30 * 86_400) {
    throw new Error('must be a time of 1s to 30d, such as 15m, 1h or 3600')
  }
  return seconds
}

const boolean = (value: string) => {
  if (value !== 'true' && value !== 'false') throw new Error('must be true or false')
  return value === 'true'
}

/** A rate limit; 0 turns it off. */
const limit = (value: string) => integer(0, 1_000_000)(value) || Number.POSITIVE_INFINITY

const setting = <T>(fallback: string, parse: (text: string) => T): Setting<T> => ({
  fallback,
  parse,
  isSecret: false,
})
const optional = <T>(parse: (text: string) => T): Setting<T | undefined> => ({
  fallback: undefined,
  parse,
  isSecret: false,
})
const secret = <T>(parse: (text: string) => T): Setting<T | undefined> => ({
  fallback: undefined,
  parse,
  isSecret: true,
})

/** Every setting, by its environment variable. */
export const settings = {
  NODE_ENV: setting(
    'development',
    text(/^(development|production|test)$/, 'development, production or test'),
  ),
  PORT: setting('3000', integer(0, 65_535)),
  HOST: setting('127.0.0.1', (value) => {
    if (value !== 'localhost' && !isIP(value)) throw new Error('must be an IP address or localhost')
    return value
  }),
  LOG_LEVEL: setting(
    'info',
    text(
      /^(fatal|error|warn|info|debug|trace|silent)$/,
      'fatal, error, warn, info, debug, trace or silent',
    ),
  ),
  DATA_DIR: setting('./data', text(/^[^\0]+$/, 'a directory')),
  MONGODB_URI: secret(url('mongodb:', 'mongodb+srv:')),
  REDIS_URL: secret(redis),
  OLLAMA_API_URL: optional(url('http:', 'https:')),
  JWT_SECRET: secret(text(/^.+$/s, 'a secret')),
  JWT_EXPIRES_IN: setting('1h', duration),
  FRONTEND_URL: setting('http://localhost:5173', origins),
  PUBLIC_URL: optional(origin('a URL such as https://chat.example.org')),
  TRUST_PROXY: setting('false', trustedProxies),
  METRICS_TOKEN: secret(text(/^[\x21-\x7e]+$/, 'a token of ASCII characters without spaces')),
  DOCS: setting('true', boolean),
  PAGE: setting('true', boolean),
  DEFAULT_MODEL: optional(text(/^\P{Cc}{1,1000}$/u, 'the name of a model')),
  OLLAMA_API_KEY: secret(text(/^[\x21-\x7e]+$/, 'a key without blanks')),
  ELIZA_PACE_MS: setting('40', integer(0, 1000)),
  OLLAMA_CONNECT_TIMEOUT_MS: setting('2000', integer(1, 600_000)),
  OLLAMA_FIRST_TOKEN_TIMEOUT_MS: setting('60000', integer(1, 3_600_000)),
  OLLAMA_IDLE_TIMEOUT_MS: setting('20000', integer(1, 3_600_000)),
  OLLAMA_LOAD_TIMEOUT_MS: setting('300000', integer(1, 3_600_000)),
  MAX_NUM_CTX: setting('32768', integer(256, 1_048_576)),
  MAX_NUM_PREDICT: setting('16384', integer(1, 1_048_576)),
  OLLAMA_MAX_CONCURRENT: setting('4', integer(1, 10_000)),
  USER_MAX_CONCURRENT: setting('2', integer(1, 10_000)),
  QUEUE_MAX: setting('1000', integer(0, 1_000_000)),
  USER_QUEUE_MAX: setting('20', integer(0, 1_000_000)),
  LEASE_MS: setting('5000', integer(200, 600_000)),
  SHUTDOWN_GRACE_MS: setting('10000', integer(100, 600_000)),
  START_TIMEOUT_MS: setting('15000', integer(100, 600_000)),
  RATE_LIMIT_LOGIN_FAILURES: setting('10', limit),
  RATE_LIMIT_CREDENTIALS_PER_MINUTE: setting('120', limit),
  RATE_LIMIT_SOCKET_EVENTS_PER_SECOND: setting('200', limit),
  RATE_LIMIT_USER_REQUESTS_PER_MINUTE: setting('6000', limit),
  RATE_LIMIT_USER_STREAMS: setting('100', limit),
  RATE_LIMIT_USER_SOCKETS: setting('100', limit),
  RATE_LIMIT_USER_CHATS: setting('100000', limit),
}

type Settings = { [K in keyof typeof settings]: ReturnType<(typeof settings)[K]['parse']> }

export type Config = Readonly<Settings>

const settingNames = Object.keys(settings) as (keyof Settings)[]

/** The variables that name the file of a secret. */
export const secretFiles = settingNames
  .filter((name) => settings[name].isSecret)
  .map((name) => `${name}_FILE`)

/** The secret in `.env.example`; production refuses it. */
export const exampleSecret = 'change-me-to-32-or-more-random-bytes'

/** Secrets from the documentation of other projects; many copy them unchanged. */
const publishedSecrets = [
  '09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7',
  '16f8c0ef4a5d391b26034086c628469d3f9f497f08163ab9b40137092f2909ef',
  '404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970',
  'eaa5191f2914e30b9387fd84e254e4ba6fc51b4654968a9b0803b456a54b8418',
]

/** Words in example secrets, such as `your_jwt_secret_key_change_in_production`, without separators. */
const exampleWords =
  /change(?:me|this|it|in)|replace(?:me|this|with|in)|your(?:own|jwt|secret|super|strong|256bit|key|random)|(?:super|my|jwt|top|string)secret|secretkey|example|placeholder|insecure|donotuse/

const minDifferentCharacters = 8
const minDifferentSteps = 4

/** Lists everything that is wrong with the environment; the message is for the terminal. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  constructor(readonly problems: readonly string[]) {
    super(
      [
        'The settings cannot be used:',
        ...problems.map((problem) => `  - ${problem}`),
        'Each is described in .env.example.',
      ].join('\n'),
    )
  }
}

/**
 * Validates the environment, and reads the files of secrets. An empty variable counts as not set.
 * @throws ConfigError that lists everything that is wrong.
 */
export function parseConfig(environment: Environment): Config {
  const problems: string[] = []
  /** Problems leave the value out: it may be a secret. */
  const attempt = <T>(subject: string, action: () => T): T | undefined => {
    try {
      return action()
    } catch (error) {
      problems.push(`${subject} ${error instanceof Error ? error.message : String(error)}`)
      return undefined
    }
  }
  const read = (name: keyof Settings): unknown => {
    const { fallback, parse, isSecret } = settings[name]
    const value = environment[name]
    const file = isSecret ? environment[`${name}_FILE`] : undefined
    if (!file) {
      const text = value || fallback
      return text === undefined ? undefined : attempt(name, () => parse(text))
    }
    if (value) {
      problems.push(`${name} and ${name}_FILE are both set: unset one of them`)
      return undefined
    }
    const text = attempt(`${name}_FILE`, () => readSecretFile(file))
    return text === undefined ? undefined : attempt(`${name} of ${name}_FILE`, () => parse(text))
  }
  const values = settingNames.map((name) => [name, read(name)])
  const config = Object.fromEntries(values) as Settings
  problems.push(...secretProblems(config, environment))
  if (problems.length > 0) throw new ConfigError(problems)
  return Object.freeze(config)
}

function secretProblems({ NODE_ENV, JWT_SECRET }: Settings, environment: Environment): string[] {
  const make = 'make one with: node -p "crypto.randomBytes(48).toString(\'base64url\')"'
  if (NODE_ENV !== 'production') return []
  // The file's own problem is in the list already.
  if (JWT_SECRET === undefined && environment.JWT_SECRET_FILE) return []
  if (JWT_SECRET === undefined) return [`JWT_SECRET is missing, and production needs one: ${make}`]
  if (Buffer.byteLength(JWT_SECRET) < 32) return [`JWT_SECRET is shorter than 32 bytes: ${make}`]
  const plain = JWT_SECRET.toLowerCase().replace(/[^a-z0-9]/g, '')
  if (publishedSecrets.includes(plain) || exampleWords.test(plain)) {
    return [`JWT_SECRET is an example’s, which anyone may know: ${make}`]
  }
  if (new Set(JWT_SECRET).size < minDifferentCharacters) {
    return [`JWT_SECRET has fewer than ${minDifferentCharacters} different characters: ${make}`]
  }
  if (differentSteps(JWT_SECRET) < minDifferentSteps) {
    return [`JWT_SECRET is a sequence that is easily guessed: ${make}`]
  }
  return []
}

/** Names that other programs use for a setting. */
const otherNames: readonly (readonly [RegExp, keyof Settings])[] = [
  [/^OLLAMA_(?:(?:API|BASE|SERVER)_)*(?:URL|URI|HOST|BASE|ENDPOINT)$/, 'OLLAMA_API_URL'],
  [/^MONGO(?:_?DB)?(?:_(?:URL|URI|HOST|CONNECTION(?:_STRING)?))?$/, 'MONGODB_URI'],
  [/^REDIS(?:_(?:URI|HOST|CONNECTION(?:_STRING)?))?$/, 'REDIS_URL'],
  [/^(?:(?:JWT|AUTH|TOKEN|SESSION)_)?(?:SECRET|SECRET_KEY|KEY|PRIVATE_KEY)$/, 'JWT_SECRET'],
  [/^(?:JWT|TOKEN)_(?:EXPIR\w*|TTL|LIFETIME)$/, 'JWT_EXPIRES_IN'],
  [/^(?:CORS_ORIGINS?|ALLOWED_ORIGINS?|(?:CLIENT|FRONTEND)_(?:ORIGIN|URI|HOST))$/, 'FRONTEND_URL'],
  [/^(?:OLLAMA_)?(?:DEFAULT_)?MODEL$/, 'DEFAULT_MODEL'],
]

/** A shorter name in the environment probably belongs to another program. */
const minTypoLength = 8

/**
 * Finds variables that this program does not read but that resemble a setting which is not set.
 * @param inFile the names in `.env`: these are meant for this program, however short.
 */
export function misnamedSettings(
  environment: Environment,
  inFile: readonly string[] = [],
): { name: string; setting: string }[] {
  const known = [...settingNames, ...secretFiles]
  return Object.keys(environment).flatMap((name) => {
    if (known.includes(name.replace(/_FILE$/, '')) || !environment[name]) return []
    const upper = name.toUpperCase()
    const alike = closest(upper, known)
    const isTypo =
      upper.length >= (inFile.includes(name) ? 4 : minTypoLength) &&
      distance(upper, alike) <= Math.max(2, upper.length / 6)
    const setting =
      otherNames.find(([pattern]) => pattern.test(upper))?.[1] ?? (isTypo ? alike : undefined)
    const isSet = setting && (environment[setting] || environment[`${setting}_FILE`])
    return setting === undefined || isSet ? [] : [{ name, setting }]
  })
}

/**
 * Reads the variables of a `.env` file, with or without a byte order mark.
 * @throws Error that says how to save the file when it is not UTF-8.
 */
export function parseEnvFile(bytes: Uint8Array): NodeJS.Dict<string> {
  // UTF-16 without a byte order mark is valid UTF-8 with a NUL in every second place.
  if (!isUtf8(bytes) || bytes.includes(0)) {
    throw new Error(
      '.env is not UTF-8: save it in that encoding. PowerShell 5 writes UTF-16; ' +
        '"Set-Content -Encoding utf8" does not.',
    )
  }
  return parseEnv(new TextDecoder().decode(bytes))
}
