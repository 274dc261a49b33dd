import { backoffMs, pause } from './backoff.js'
import { ChatError, networkError, responseError, timeoutError } from './chat-error.js'

export type Fetch = (request: Request) => Promise<Response>

/**
 * Sends requests with a limit on the time until the whole answer is here.
 * @returns a fetch whose answer is 2xx; it throws a ChatError, or the reason of the caller's signal.
 */
export function createFetch(fetch: Fetch, timeoutMs: number): Fetch {
  return async (request) => {
    const limit = new AbortController()
    const timer = setTimeout(() => limit.abort(timeoutError(request.url, timeoutMs)), timeoutMs)
    // Not AbortSignal.any: in Node 20 it can throw when a source signal was collected.
    const abort = () => limit.abort(request.signal.reason)
    request.signal.addEventListener('abort', abort)
    try {
      if (request.signal.aborted) abort()
      limit.signal.throwIfAborted()
      const response = await fetch(new Request(request, { signal: limit.signal }))
      const text = await response.text()
      if (!response.ok) throw responseError(response.status, response.headers, parsed(text))
      const { status, headers } = response
      if (text !== '' && parsed(text) === undefined) throw responseError(status, headers, undefined)
      return new Response(text === '' ? null : text, { status, headers })
    } catch (error) {
      if (limit.signal.aborted) throw limit.signal.reason
      throw networkError(error, request.url)
    } finally {
      clearTimeout(timer)
      request.signal.removeEventListener('abort', abort)
    }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Where access tokens come from. */
export interface TokenSource {
  /**
   * A valid access token.
   * @param refused one that the server does not take, or will not for long.
   */
  token(refused?: string): Promise<string>
  /** Told of each error that a call with a token met. */
  refusedWith(error: unknown): void
}

/** Adds the access token, and tries once more with a new one where the server refuses it. */
export function withToken(fetch: Fetch, tokens: TokenSource): Fetch {
  const attempt = (request: Request, token: string) => {
    const signed = request.clone()
    signed.headers.set('authorization', `Bearer ${token}`)
    return fetch(signed)
  }
  return async (request) => {
    try {
      const token = await tokens.token()
      try {
        return await attempt(request, token)
      } catch (error) {
        if (!isTokenRefused(error)) throw error
        return await attempt(request, await tokens.token(token))
      }
    } catch (error) {
      tokens.refusedWith(error)
      throw error
    }
  }
}

const isTokenRefused = (error: unknown) =>
  error instanceof ChatError && (error.code === 'TOKEN_EXPIRED' || error.code === 'UNAUTHORIZED')

const maxTries = 4

/**
 * Repeats a call that changes nothing when it is repeated, while its error is retryable.
 * @param limit when to give up although tries are left.
 */
export async function repeated<T>(
  call: () => Promise<T>,
  signal: AbortSignal | undefined,
  tries = maxTries,
): Promise<T> {
  for (let failures = 0; ; failures += 1) {
    try {
      return await call()
    } catch (error) {
      if (!(error instanceof ChatError && error.retryable) || failures + 1 >= tries) throw error
      await pause(Math.max(error.retryAfterMs, backoffMs(failures)), signal)
      signal?.throwIfAborted()
    }
  }
}
