import type { Message, MessageChunk, MessageStart } from '../../schemas/messages.js'
import { backoffMs, pause } from './backoff.js'
import { type Bytes, readEvents } from './events.js'
import type { ReplyText } from './reply-text.js'

/** The part of `fetch` that is used. */
export type FetchLike = (
  url: string,
  init: { headers: Record<string, string>; signal: AbortSignal },
) => Promise<{
  status: number
  headers: { get(name: string): string | null }
  body: Bytes | null
}>

/** The server refuses this stream: the token is bad, the session ended, or there is no such reply. */
export class StreamRefused extends Error {
  override readonly name = 'StreamRefused'
  readonly status: number
  /** Why the server ended a stream after it began. */
  readonly code: string | undefined

  constructor(status: number, code?: string) {
    super(`The stream was refused with ${code ?? status}.`)
    this.status = status
    this.code = code
  }
}

const maxFailures = 8
/** Longer than the pause between the server's heartbeats. */
const silenceMs = 60_000
const longestRetryAfterMs = 60_000

/** Converts `Retry-After`, seconds or a date, to milliseconds, with an upper bound. */
function retryAfterMs(value: string | null): number {
  if (value === null) return 0
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Math.min(Math.max(ms || 0, 0), longestRetryAfterMs)
}

/** Calls `silent` after `silenceMs` without `heard()`. */
function watch(silent: () => void) {
  let timer = setTimeout(silent, silenceMs)
  return {
    heard() {
      clearTimeout(timer)
      timer = setTimeout(silent, silenceMs)
    },
    end: () => clearTimeout(timer),
  }
}

/**
 * Follows one reply over server-sent events until its final record, reconnecting from where it is.
 * @param url the reply's `…/messages/:messageId/stream`.
 * @param token the access token, or a function that returns a valid one, called at each try.
 * @param onChange called after each event that changed the reply.
 * @throws StreamRefused when a retry cannot help; the signal's reason; the last failure after nine
 *   tries in a row without new text.
 */
export async function followReply(
  fetchLike: FetchLike,
  url: string,
  token: string | (() => Promise<string>),
  reply: ReplyText,
  signal: AbortSignal,
  onChange: (reply: ReplyText) => void = () => {},
): Promise<Message> {
  let failures = 0
  /** The token of the last try that was refused. */
  let refused: string | undefined
  for (;;) {
    signal.throwIfAborted()
    let waitMs = 0
    let failure: unknown
    const attempt = new AbortController()
    // Not AbortSignal.any: in Node 20 it can throw when a source signal was collected.
    const abort = () => attempt.abort(signal.reason)
    signal.addEventListener('abort', abort)
    const watched = watch(() => attempt.abort(new Error('The stream fell silent.')))
    try {
      const bearer = typeof token === 'string' ? token : await token()
      const response = await fetchLike(url, {
        headers: resumeHeaders(bearer, reply),
        signal: attempt.signal,
      })
      const { status, body } = response
      if (status !== 200 || !body) {
        // The token may have expired in transit, so try once with another one.
        const mayRenew = status === 401 && typeof token !== 'string' && bearer !== refused
        const isFinal = status < 500 && status !== 408 && status !== 429
        if (isFinal && !mayRenew) throw new StreamRefused(status)
        refused = bearer
        waitMs = retryAfterMs(response.headers.get('retry-after'))
        failure = new Error(`The stream answered ${status}.`)
      } else {
        for await (const { event, data } of readEvents(body, watched.heard)) {
          if (event === 'error') throwUnlessRetryable(data)
          const before = reply.text.length + reply.thinking.length
          const right = take(reply, event, data)
          if (reply.text.length + reply.thinking.length > before) failures = 0
          onChange(reply)
          if (reply.record) return reply.record
          if (!right) break
        }
        failure = new Error('The stream ended before the reply did.')
      }
    } catch (error) {
      if (error instanceof StreamRefused) throw error
      failure = error
    } finally {
      watched.end()
      signal.removeEventListener('abort', abort)
      attempt.abort()
    }
    if (failures === maxFailures) throw failure
    await pause(Math.max(waitMs, backoffMs(failures)), signal)
    failures += 1
  }
}

function resumeHeaders(token: string, reply: ReplyText): Record<string, string> {
  const { messageId, epoch, offset } = reply.rejoinPoint()
  return {
    accept: 'text/event-stream',
    authorization: `Bearer ${token}`,
    ...(offset > 0 && { 'last-event-id': `${messageId}:${epoch}:${offset}` }),
  }
}

/** Handles the event `error`, which ends a stream, for example because the session ended. */
function throwUnlessRetryable(data: string): void {
  const { code, retryable } = JSON.parse(data) as { code: string; retryable: boolean }
  if (!retryable) throw new StreamRefused(401, code)
}

/** @returns false when the stream must be requested again. */
function take(reply: ReplyText, event: string, data: string): boolean {
  if (event === 'message-chunk') {
    return reply.chunk(JSON.parse(data) as MessageChunk) !== 'gap' && reply.settle()
  }
  if (event === 'message-start') {
    reply.start(JSON.parse(data) as MessageStart)
  } else if (event === 'message') {
    const message = JSON.parse(data) as Message
    // A stream that answers a POST begins with the record of the user's message.
    if (message.id === reply.messageId) reply.message(message)
  }
  return true
}
