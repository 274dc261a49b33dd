import type { SessionEnd } from '../schemas/auth.js'
import { backoffMs, pause } from './backoff.js'

/** What is used of a socket of socket.io-client. */
export interface SignedSocket {
  auth: unknown
  connect(): unknown
  on(event: string, listener: (payload: never) => void): unknown
  off(event: string, listener: (payload: never) => void): unknown
  timeout(ms: number): { emitWithAck(event: string, payload: object): Promise<unknown> }
}

export interface SignInHooks {
  /** An access token that is good now; called again whenever one is about to expire or has. */
  token: () => Promise<string>
  /** The socket will not come back: why, such as `LOGGED_OUT`. */
  onEnd: (code: string) => void
}

interface ConnectError {
  data?: { code: string; retryable: boolean }
}

const ackMs = 5000
const maxFailures = 8

/**
 * Keeps a socket signed in for as long as its session lasts: gives it a token whenever it connects,
 * a newer one when the server tells that it expires, and connects again where a stock client gives up.
 * @returns the way to stop.
 */
export function keepSignedIn(socket: SignedSocket, hooks: SignInHooks): () => void {
  const stopped = new AbortController()
  let failures = 0

  socket.auth = (give: (auth: object) => void) => {
    // Without a token the server closes the connection after a while, and the next one asks again.
    hooks.token().then((token) => give({ token }), ignore)
  }

  async function renew(): Promise<void> {
    try {
      const token = await hooks.token()
      await socket.timeout(ackMs).emitWithAck('authenticate', { token })
    } catch {
      // The server closes the transport then; the socket connects again and is asked for a token.
    }
  }

  async function retry({ data }: ConnectError): Promise<void> {
    // A network's failure: the socket tries again by itself.
    if (!data) return
    const mayRetry = data.retryable || data.code === 'TOKEN_EXPIRED'
    if (!mayRetry || failures === maxFailures) return end(data.code)
    await pause(backoffMs(failures), stopped.signal)
    failures += 1
    if (!stopped.signal.aborted) socket.connect()
  }

  function end(code: string): void {
    stop()
    hooks.onEnd(code)
  }

  const listeners: Readonly<Record<string, (payload: never) => void>> = {
    connect: () => {
      failures = 0
    },
    connect_error: (error: ConnectError) => void retry(error),
    'token-expiring': () => void renew(),
    'session-ended': ({ code }: { code: SessionEnd }) => end(code),
  }

  function stop(): void {
    stopped.abort()
    for (const [event, listener] of Object.entries(listeners)) socket.off(event, listener)
  }

  for (const [event, listener] of Object.entries(listeners)) socket.on(event, listener)
  return stop
}

function ignore(): void {}
