import { STATUS_CODES } from 'node:http'
import type { ApiError, FieldFault } from '../schemas/common.js'

/**
 * Every error of the product: its code, its HTTP status, whether the same request may succeed later,
 * and the message for a person.
 */
const catalogue = {
  VALIDATION_FAILED: [400, false, 'The request does not match its schema.'],
  BAD_REQUEST: [400, false, 'The request is not valid HTTP/1.1.'],
  BAD_URL: [400, false, 'The path is not percent-encoded UTF-8.'],
  BAD_JSON: [400, false, 'The body is not JSON.'],
  BAD_TEXT: [400, false, 'Text must be valid Unicode without NUL or lone surrogates.'],
  TOO_DEEP: [400, false, 'The body is nested too deeply.'],
  BAD_CURSOR: [
    400,
    false,
    'The cursor is not valid for this list: use the `nextCursor` of the page before.',
  ],
  PASSWORD_TOO_LONG: [400, false, 'A password has at most 72 bytes of UTF-8.'],
  PASSWORD_TOO_WEAK: [400, false, 'The password is easy to guess: choose another.'],
  MODEL_CANNOT: [400, false, 'The model does not support what the request asks for.'],
  MESSAGE_TOO_LONG: [400, false, 'The message alone does not fit the model’s context window.'],
  BODY_TOO_LARGE: [413, false, 'The body is over the limit.'],
  UNSUPPORTED_MEDIA_TYPE: [415, false, 'Send application/json.'],
  UNAUTHORIZED: [
    401,
    false,
    'A valid access token is required: `Authorization: Bearer <token>`, or `auth: {token}` of a socket.',
  ],
  TOKEN_EXPIRED: [401, false, 'The access token has expired: refresh it.'],
  LOGGED_OUT: [401, false, 'The session was logged out: log in again.'],
  TOKEN_REUSED: [
    401,
    false,
    'A used refresh token was sent again, which ended the session: log in again.',
  ],
  ACCOUNT_DELETED: [401, false, 'The account was deleted.'],
  BAD_CREDENTIALS: [401, false, 'No account has these credentials.'],
  BAD_REFRESH_TOKEN: [401, false, 'The refresh token is unknown, used or expired: log in again.'],
  ORIGIN_REFUSED: [
    403,
    false,
    'This origin is not allowed: set PUBLIC_URL to the server’s own, FRONTEND_URL to others.',
  ],
  METRICS_REFUSED: [
    403,
    false,
    'Metrics are served to this machine only: set METRICS_TOKEN to let others in.',
  ],
  NOT_FOUND: [404, false, 'There is nothing here.'],
  CHAT_NOT_FOUND: [404, false, 'No such chat.'],
  MESSAGE_NOT_FOUND: [404, false, 'No such message.'],
  MODEL_NOT_FOUND: [404, false, 'Ollama does not list that model: see GET /api/ai/models.'],
  METHOD_NOT_ALLOWED: [405, false, 'The path does not support this method: see the Allow header.'],
  REQUEST_TIMEOUT: [408, true, 'The request did not arrive in time.'],
  USER_TAKEN: [409, false, 'The username or the email is taken.'],
  IDEMPOTENCY_KEY_REUSED: [409, false, 'That idempotency key was used for another message.'],
  USER_QUEUE_FULL: [429, true, 'Too many of your replies are waiting: try again later.'],
  RATE_LIMITED: [429, true, 'Too many requests: try again later.'],
  HEADERS_TOO_LARGE: [431, false, 'The headers are over the limit.'],
  INTERNAL: [500, false, 'The server failed; its log has the cause under the request id.'],
  MODEL_UNREACHABLE: [502, true, 'Ollama cannot be reached.'],
  MODEL_FAILED: [502, true, 'Ollama reported an error: the server’s log has its text.'],
  MODEL_BAD_RESPONSE: [502, true, 'Ollama’s response does not follow its protocol.'],
  MODEL_CUT: [502, true, 'Ollama ended the reply before it was done.'],
  REPLY_INTERRUPTED: [
    502,
    true,
    'The reply was interrupted too often and ended with the text it had.',
  ],
  MODEL_TIMEOUT: [504, true, 'Ollama did not answer in time.'],
  MODELS_UNKNOWN: [
    503,
    true,
    'Ollama cannot be reached, and its models are not known yet: try again.',
  ],
  QUEUE_FULL: [503, true, 'Too many replies are waiting: try again later.'],
  SHUTTING_DOWN: [503, true, 'The server is shutting down: try again.'],
  STORE_UNAVAILABLE: [503, true, 'The database cannot be reached: try again.'],
  STORAGE_FULL: [
    503,
    true,
    'The disk is full or read-only: nothing was stored. Make room, then retry.',
  ],
  TOO_BUSY: [503, true, 'Too many logins at once: try again.'],
} as const satisfies Record<string, readonly [status: number, retryable: boolean, message: string]>

export type ErrorCode = keyof typeof catalogue

interface ErrorDetail {
  /** Replaces the catalogue's message. */
  message?: string
  /** Replaces the catalogue's `retryable`. */
  retryable?: boolean
  /** Seconds, for `Retry-After`. */
  retryAfter?: number
  /** The reply that failed, if its message was stored. */
  replyId?: string
  /** The fields that are wrong. */
  errors?: readonly FieldFault[]
  cause?: unknown
}

/** An error whose code and message are sent to the client. */
export class AppError extends Error {
  override readonly name = 'AppError'
  readonly code: ErrorCode
  readonly statusCode: number
  readonly retryable: boolean
  readonly retryAfter: number | undefined
  readonly replyId: string | undefined
  readonly errors: readonly FieldFault[] | undefined

  constructor(code: ErrorCode, detail: ErrorDetail = {}) {
    const [statusCode, retryable, message] = catalogue[code]
    super(detail.message ?? message, detail.cause === undefined ? {} : { cause: detail.cause })
    this.code = code
    // A failed reply is 502, not the request's 4xx: its message is stored. The end of a session stays 401.
    const isReplys = detail.replyId !== undefined && statusCode < 500 && statusCode !== 401
    this.statusCode = isReplys ? 502 : statusCode
    this.retryable = detail.retryable ?? retryable
    this.retryAfter = detail.retryAfter ?? (statusCode === 503 ? 1 : undefined)
    this.replyId = detail.replyId
    this.errors = detail.errors
  }
}

/** A VALIDATION_FAILED error whose message lists all faults. */
export function invalid(errors: readonly FieldFault[], where = ''): AppError {
  const told = errors.map(({ field, message }) => `\`${field}\` ${message}`)
  return new AppError('VALIDATION_FAILED', { message: `${where}${told.join('; ')}.`, errors })
}

/** The body of an error response. */
export function errorBody(error: AppError, requestId: string): ApiError {
  const { statusCode, code, message, retryable, replyId, errors } = error
  return {
    statusCode,
    code,
    error: STATUS_CODES[statusCode] ?? 'Error',
    message,
    requestId,
    retryable,
    ...(replyId !== undefined && { replyId }),
    ...(errors && { errors: [...errors] }),
  }
}

/** Whether `code`, such as a stored reply's, is in the catalogue. */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(catalogue, code)
}
