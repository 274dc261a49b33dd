import { STATUS_CODES } from 'node:http'
import type { ApiError, FieldFault } from '../schemas/common.js'

/**
 * Every error of the product: its code, its HTTP status, whether the same request may succeed later, the
 * cause and the remedy. The two make the message for a person, and the table in the API's documents.
 */
const catalogue = {
  VALIDATION_FAILED: [
    400,
    false,
    'The request does not match its schema',
    'correct the fields that `errors` lists',
  ],
  BAD_REQUEST: [400, false, 'The request is not valid HTTP/1.1', 'correct it'],
  BAD_URL: [400, false, 'The path is not percent-encoded UTF-8', 'encode each part of it'],
  BAD_JSON: [400, false, 'The body is not JSON', 'send one JSON value in UTF-8'],
  BAD_TEXT: [
    400,
    false,
    'The text is not valid Unicode, or has NUL',
    'leave lone surrogates and NUL out',
  ],
  TOO_DEEP: [400, false, 'The body is nested too deeply', 'nest at most 32 levels'],
  BAD_CURSOR: [
    400,
    false,
    'The cursor is not valid for this list',
    'use the `nextCursor` of the page before',
  ],
  PASSWORD_TOO_LONG: [
    400,
    false,
    'A password has at most 72 bytes of UTF-8',
    'choose a shorter one',
  ],
  PASSWORD_TOO_WEAK: [400, false, 'The password is easy to guess', 'choose another'],
  MODEL_CANNOT: [
    400,
    false,
    'The model does not support what the request asks for',
    'choose another model, or leave that option out',
  ],
  MESSAGE_TOO_LONG: [
    400,
    false,
    'The message alone does not fit the model’s context window',
    'shorten it, raise `num_ctx`, or choose another model',
  ],
  BODY_TOO_LARGE: [413, false, 'The body is over the limit', 'send at most 1 MiB'],
  UNSUPPORTED_MEDIA_TYPE: [
    415,
    false,
    'The body’s type is not supported',
    'send `Content-Type: application/json`',
  ],
  UNAUTHORIZED: [
    401,
    false,
    'A valid access token is required',
    'send `Authorization: Bearer <token>`, or `auth: {token}` of a socket',
  ],
  TOKEN_EXPIRED: [401, false, 'The access token has expired', 'refresh it'],
  LOGGED_OUT: [401, false, 'The session was logged out', 'log in again'],
  TOKEN_REUSED: [
    401,
    false,
    'A used refresh token was sent again, which ended the session',
    'log in again',
  ],
  ACCOUNT_DELETED: [401, false, 'The account was deleted', 'register a new one'],
  BAD_CREDENTIALS: [
    401,
    false,
    'No account has these credentials',
    'check the name and the password',
  ],
  BAD_REFRESH_TOKEN: [401, false, 'The refresh token is unknown, used or expired', 'log in again'],
  ORIGIN_REFUSED: [
    403,
    false,
    'This origin is not allowed',
    'set PUBLIC_URL to the server’s own, FRONTEND_URL to others',
  ],
  METRICS_REFUSED: [
    403,
    false,
    'Metrics are served to this machine only',
    'set METRICS_TOKEN to let others in',
  ],
  NOT_FOUND: [404, false, 'There is nothing here', 'see /openapi.json for what there is'],
  CHAT_NOT_FOUND: [404, false, 'No such chat', 'see GET /api/ai/chats'],
  MESSAGE_NOT_FOUND: [404, false, 'No such message', 'see the messages of its chat'],
  MODEL_NOT_FOUND: [404, false, 'Ollama does not list that model', 'see GET /api/ai/models'],
  METHOD_NOT_ALLOWED: [
    405,
    false,
    'The path does not support this method',
    'use one of the `Allow` header',
  ],
  REQUEST_TIMEOUT: [408, true, 'The request did not arrive in time', 'send it again'],
  USER_TAKEN: [409, false, 'The username or the email is taken', 'choose another, or log in'],
  IDEMPOTENCY_KEY_REUSED: [
    409,
    false,
    'That idempotency key was used for another message',
    'use a new key for each message',
  ],
  USER_QUEUE_FULL: [
    429,
    true,
    'Too many of your replies are waiting',
    'send again once one has ended, after `Retry-After`',
  ],
  RATE_LIMITED: [429, true, 'Too many requests', 'try again after `Retry-After`'],
  HEADERS_TOO_LARGE: [431, false, 'The headers are over the limit', 'send at most 16 KiB'],
  INTERNAL: [
    500,
    false,
    'The server failed',
    'look for the request id in its log, which has the cause',
  ],
  MODEL_UNREACHABLE: [502, true, 'Ollama cannot be reached', 'try again once it runs'],
  MODEL_FAILED: [502, true, 'Ollama reported an error', 'look for its text in the server’s log'],
  MODEL_BAD_RESPONSE: [
    502,
    true,
    'Ollama’s response does not follow its protocol',
    'look for it in the server’s log',
  ],
  MODEL_CUT: [502, true, 'Ollama ended the reply before it was done', 'send the message again'],
  REPLY_INTERRUPTED: [
    502,
    true,
    'The reply was interrupted too often and ended with the text it had',
    'send the message again',
  ],
  MODEL_TIMEOUT: [504, true, 'Ollama did not answer in time', 'try again'],
  MODELS_UNKNOWN: [
    503,
    true,
    'Ollama cannot be reached, and its models are not known yet',
    'try again once it runs',
  ],
  QUEUE_FULL: [503, true, 'Too many replies are waiting', 'try again after `Retry-After`'],
  SHUTTING_DOWN: [503, true, 'The server is shutting down', 'try again'],
  STORE_UNAVAILABLE: [503, true, 'The database cannot be reached', 'try again'],
  STORAGE_FULL: [
    503,
    true,
    'The disk is full or read-only, so nothing was stored',
    'make room, then try again',
  ],
  TOO_BUSY: [503, true, 'Too many logins at once', 'try again'],
} as const satisfies Record<
  string,
  readonly [status: number, retryable: boolean, cause: string, remedy: string]
>

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
    const [statusCode, retryable, cause, remedy] = catalogue[code]
    super(
      detail.message ?? `${cause}: ${remedy}.`,
      detail.cause === undefined ? {} : { cause: detail.cause },
    )
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

/** The codes with all that the catalogue tells of each. */
export const errorTable = (Object.keys(catalogue) as ErrorCode[]).map((code) => {
  const [status, retryable, cause, remedy] = catalogue[code]
  return { code, status, retryable, cause, remedy }
})

export const statusOf = (code: ErrorCode): number => catalogue[code][0]
