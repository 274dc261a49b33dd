import { errors } from 'undici'
import { AppError } from '../errors.js'

const longestReason = 300

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

/** @param what Ollama sent, as the end of a sentence. */
export function badResponse(what: string, cause?: unknown): AppError {
  return new AppError('MODEL_BAD_RESPONSE', {
    message: `Ollama answered with what is not its protocol: ${what}.`,
    cause,
  })
}

/** An error that Ollama reported itself, with its own words, cut to 300 characters. */
export function reportedError(reason: string | undefined): AppError {
  if (!reason) return new AppError('MODEL_FAILED')
  return new AppError('MODEL_FAILED', { message: `Ollama reported an error: ${shortened(reason)}` })
}

/** An answer with an HTTP status of 400 or more. */
export function refusal(status: number, body: Buffer): AppError {
  const reason = reasonIn(body)
  if (status === 404) {
    return new AppError(
      'MODEL_NOT_FOUND',
      reason ? { message: `Ollama: ${shortened(reason)}` } : {},
    )
  }
  return reportedError(reason ?? `HTTP ${status}`)
}

function reasonIn(body: Buffer): string | undefined {
  try {
    const answer: unknown = JSON.parse(body.toString())
    if (isRecord(answer) && typeof answer.error === 'string') return answer.error
  } catch {
    // An error page of something before Ollama: the status says enough.
  }
  return undefined
}

function shortened(reason: string): string {
  const text = reason.replace(/\p{Cc}+/gu, ' ')
  if (text.length <= longestReason) return text.replace(/\p{Cs}/gu, '\ufffd')
  return `${text.slice(0, longestReason - 1).replace(/\p{Cs}/gu, '')}…`
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
