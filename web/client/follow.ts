import { backoffMs, pause } from './backoff.js'
import { asFault, ChatError, faultError, networkError, responseError } from './chat-error.js'
import { type Bytes, readEvents } from './events.js'
import type { ReplyText } from './reply-text.js'
import type { Message, MessageChunk, MessageStart } from './types.js'

/** The part of `fetch` that is used. */
export type FetchLike = (
  url: string,
  init: { headers: Record<string, string>; signal: AbortSignal },
) => Promise<{
  status: number
  headers: { get(name: string): string | null }
  body: Bytes | null
  /** For the error that a refusal bears. */
  json?(): Promise<unknown>
}>

const maxFailures = 8
/** Longer than the pause between the server's heartbeats. */
const silenceMs = 60_000

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
 * @throws ChatError: the refusal when a retry cannot help, or the last failure after nine tries in a row
 *   without new text; the signal's reason.
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
    let failure: ChatError
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
      const { status, headers, body } = response
      if (status !== 200 || !body) {
        failure = responseError(status, headers, await response.json?.().catch(() => undefined))
        // The token may have expired in transit, so try once with another one.
        const mayRenew = status === 401 && typeof token !== 'string' && bearer !== refused
        const isFinal = status < 500 && status !== 408 && status !== 429
        if (isFinal && !mayRenew) throw failure
        refused = bearer
        waitMs = failure.retryAfterMs
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
        const cut = 'The stream ended before the reply did.'
        failure = new ChatError('NETWORK', cut, { retryable: true })
      }
    } catch (error) {
      if (error instanceof ChatError && !error.retryable) throw error
      failure = networkError(error, url)
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
  const fault = asFault(JSON.parse(data))
  if (fault && !fault.retryable) throw faultError(fault, { status: 401 })
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
