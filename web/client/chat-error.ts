import type { FieldFault } from './types.js'

export interface ErrorDetail {
  retryable?: boolean
  status?: number | undefined
  requestId?: string | undefined
  replyId?: string | undefined
  errors?: readonly FieldFault[] | undefined
  retryAfterMs?: number | undefined
  cause?: unknown
}

/**
 * Whatever goes wrong: REST, server-sent events, sockets, the network and time limits alike.
 *
 * `code` is the server's, or one of this package: `NETWORK` (no connection), `TIMEOUT` (no answer in
 * time), `BAD_RESPONSE` (an answer that is not this API's), `SIGNED_OUT` (nobody is signed in),
 * `DISCONNECTED` (the server closed the socket for good), `CLOSED` (the client was closed),
 * `TOO_MANY_PENDING` (too many messages wait to be sent), `DISCARDED` (a message was given up),
 * `BAD_URL` (the option `url` is not a server's).
 */
export class ChatError extends Error {
  override readonly name = 'ChatError'
  /** A stable name, such as `CHAT_NOT_FOUND`. */
  readonly code: string
  /** Whether the same call may succeed later. */
  readonly retryable: boolean
  /** The HTTP status, where there was one. */
  readonly status: number | undefined
  /** Identifies the request in the server's log. */
  readonly requestId: string | undefined
  /** The reply that failed; its message is stored. */
  readonly replyId: string | undefined
  /** Every field that is wrong. */
  readonly errors: readonly FieldFault[] | undefined
  /** How long the server asks to wait before the next try. */
  readonly retryAfterMs: number

  constructor(code: string, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.code = code
    this.retryable = detail.retryable ?? false
    this.status = detail.status
    this.requestId = detail.requestId
    this.replyId = detail.replyId
    this.errors = detail.errors
    this.retryAfterMs = detail.retryAfterMs ?? 0
  }
}

const retryableStatuses: ReadonlySet<number> = new Set([408, 425, 429, 502, 503, 504])
const longestRetryAfterMs = 60_000

/** Converts `Retry-After`, seconds or a date, to milliseconds, with an upper bound. */
function retryAfterMs(value: string | null): number {
  if (value === null) return 0
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Math.min(Math.max(ms || 0, 0), longestRetryAfterMs)
}

/** The error of a response that is not 2xx. @param body its body, where it is JSON. */
export function responseError(
  status: number,
  headers: { get(name: string): string | null },
  body: unknown,
): ChatError {
  const waitMs = retryAfterMs(headers.get('retry-after'))
  const known = asFault(body)
  if (known) return faultError(known, { status, retryAfterMs: waitMs })
  // A proxy answered, or another server.
  return new ChatError(
    'BAD_RESPONSE',
    `The answer (${status}) is not this API’s: check the url, and the proxy before it.`,
    {
      status,
      retryable: retryableStatuses.has(status),
      requestId: headers.get('x-request-id') ?? undefined,
      retryAfterMs: waitMs,
    },
  )
}

interface Fault {
  code: string
  message: string
  retryable: boolean
  requestId?: string
  replyId?: string
  errors?: FieldFault[]
}

/** The error that the server describes, in a body, an acknowledgement, or an event. */
export function faultError(fault: Fault, detail: ErrorDetail = {}): ChatError {
  const { code, message, retryable, requestId, replyId, errors } = fault
  return new ChatError(code, message, { retryable, requestId, replyId, errors, ...detail })
}

/** `value` if it is an error as the server describes one. */
export function asFault(value: unknown): Fault | undefined {
  const fault = value as Partial<Fault> | null | undefined
  const isFault =
    typeof fault?.code === 'string' &&
    typeof fault.message === 'string' &&
    typeof fault.retryable === 'boolean'
  return isFault ? (fault as Fault) : undefined
}

/** A failure of the network as a ChatError. */
export function networkError(cause: unknown, url: string): ChatError {
  if (cause instanceof ChatError) return cause
  const inner = cause instanceof Error ? cause.cause : undefined
  const why = (inner as { code?: unknown } | undefined)?.code
  return new ChatError(
    'NETWORK',
    `${originOf(url)} cannot be reached${typeof why === 'string' ? ` (${why})` : ''}.`,
    { retryable: true, cause },
  )
}

export function timeoutError(url: string, ms: number): ChatError {
  return new ChatError('TIMEOUT', `${originOf(url)} did not answer within ${ms} ms.`, {
    retryable: true,
  })
}

export function closedError(): ChatError {
  return new ChatError('CLOSED', 'The client was closed.')
}

function originOf(url: string): string {
  return /^[a-z]+:\/\/[^/?#]+/i.exec(url)?.[0] ?? 'The server'
}
