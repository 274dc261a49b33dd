import { errors } from 'undici'
import { AppError, type ErrorCode } from '../errors.js'

/** What a failed connection means: before the answer began, or in the midst of it. */
export function connectionError(cause: unknown, begun: boolean): AppError {
  if (cause instanceof AppError) return cause
  if (cause instanceof errors.ClientDestroyedError || cause instanceof errors.ClientClosedError) {
    return new AppError('SHUTTING_DOWN', { cause })
  }
  // Without data it is an end that came too soon.
  const misread = cause instanceof errors.HTTPParserError && 'data' in cause && cause.data
  if (misread || cause instanceof errors.HeadersOverflowError) {
    return badResponse('what is not HTTP', cause)
  }
  return new AppError(begun ? 'MODEL_CUT' : 'MODEL_UNREACHABLE', { cause })
}

/**
 * @param what Ollama sent, as the end of a sentence, in words of our own.
 * @param cause for the log alone; Ollama's own words as text.
 */
export function badResponse(what: string, cause?: unknown): AppError {
  return new AppError('MODEL_BAD_RESPONSE', {
    message: `Ollama answered with what is not its protocol: ${what}.`,
    cause: typeof cause === 'string' ? new Error(cause) : cause,
  })
}

/** Reasons of Ollama's whose meaning is known, in words of our own. */
const knownReasons: readonly [reason: RegExp, code: ErrorCode, message: string][] = [
  [/does not support thinking/, 'MODEL_CANNOT', 'The model cannot think: leave options.think out.'],
  [/does not support/, 'MODEL_CANNOT', 'The model does not support what was asked of it.'],
  [
    /out of memory|more system memory|unable to allocate|cudaMalloc/i,
    'MODEL_FAILED',
    'Ollama has too little memory for the model.',
  ],
  [
    /runner process (has terminated|no longer running)|runner (has )?crashed/i,
    'MODEL_FAILED',
    'The model’s process at Ollama ended before the reply was done.',
  ],
  [
    /timed out waiting for .*runner/i,
    'MODEL_FAILED',
    'Ollama took too long to load the model (its OLLAMA_LOAD_TIMEOUT).',
  ],
  [
    /server busy|maximum pending requests/i,
    'MODEL_FAILED',
    'Ollama has too many requests waiting: try again later.',
  ],
  [
    /context (length|window|size)|prompt (is )?too long/i,
    'MODEL_FAILED',
    'The prompt does not fit the model’s context window.',
  ],
  [
    /^HTTP 40[13]|unauthorized/i,
    'MODEL_FAILED',
    'Ollama refused this server’s credentials: see OLLAMA_API_KEY and OLLAMA_API_URL.',
  ],
]

/**
 * An error that Ollama reported itself, in words of our own: its text may hold paths, addresses and
 * keys, and is for the log.
 */
export function reportedError(reason: string, status?: number): AppError {
  const said = status === undefined ? reason : `HTTP ${status}: ${reason}`
  const cause = new Error(said)
  const [, code, message] = knownReasons.find(([pattern]) => pattern.test(said)) ?? []
  if (code) return new AppError(code, { message, cause })
  if (status === undefined) return new AppError('MODEL_FAILED', { cause })
  const unknown = `Ollama reported an error (HTTP ${status}): the server’s log has its text.`
  return new AppError('MODEL_FAILED', { message: unknown, cause })
}

/** An answer with an HTTP status of 400 or more. */
export function refusal(status: number, body: Buffer): AppError {
  const text = body.toString()
  if (status === 404) return new AppError('MODEL_NOT_FOUND', { cause: new Error(text) })
  return reportedError(reasonIn(text) ?? text, status)
}

function reasonIn(body: string): string | undefined {
  try {
    const answer: unknown = JSON.parse(body)
    if (isRecord(answer) && typeof answer.error === 'string') return answer.error
  } catch {
    // An error page of something before Ollama: the status says enough.
  }
  return undefined
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
