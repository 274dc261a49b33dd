import type { SessionEnd } from '../../schemas/auth.js'
import { backoffMs, pause } from './backoff.js'

/** The part of socket.io-client's socket that is used. */
export interface SignedSocket {
  auth: unknown
  connect(): unknown
  on(event: string, listener: (payload: never) => void): unknown
  off(event: string, listener: (payload: never) => void): unknown
  timeout(ms: number): { emitWithAck(event: string, payload: object): Promise<unknown> }
}

export interface SignInHooks {
  /** Returns a valid access token; called again when one has expired or is about to. */
  token: () => Promise<string>
  /** The socket is closed for good, with the reason, such as `LOGGED_OUT`. */
  onEnd: (code: string) => void
}

interface ConnectError {
  data?: { code: string; retryable: boolean }
}

const ackMs = 5000
const maxFailures = 8

/**
 * Keeps a socket signed in while its session lasts: gives it a token when it connects and when the
 * token is about to expire, and reconnects where socket.io-client gives up.
 * @returns a function that stops it.
 */
export function keepSignedIn(socket: SignedSocket, hooks: SignInHooks): () => void {
  const stopped = new AbortController()
  let failures = 0

  socket.auth = (give: (auth: object) => void) => {
    // Without a token the server closes the connection, and the next one asks for a token again.
    hooks.token().then((token) => give({ token }), ignore)
  }

  async function renew(): Promise<void> {
    try {
      const token = await hooks.token()
      await socket.timeout(ackMs).emitWithAck('authenticate', { token })
    } catch {
      // The server then closes the transport; the socket reconnects and asks for a token.
    }
  }

  async function retry({ data }: ConnectError): Promise<void> {
    // A network failure: socket.io-client retries.
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
