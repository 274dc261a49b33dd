import { backoffMs, pause } from './backoff.js'
import type { SessionEnd } from './types.js'

/** The part of socket.io-client's socket that is used. */
export interface SignedSocket {
  auth: unknown
  connect(): unknown
  on(event: string, listener: (payload: never) => void): unknown
  off(event: string, listener: (payload: never) => void): unknown
  timeout(ms: number): { emitWithAck(event: string, payload: object): Promise<unknown> }
}

export interface SignInHooks {
  /**
   * Returns a valid access token.
   * @param refused the token that was given last, if it has expired or is about to.
   */
  token: (refused?: string) => Promise<string>
  /** The socket is closed for good, with the reason, such as `LOGGED_OUT`. */
  onEnd: (code: string, message: string) => void
}

interface ConnectError {
  message: string
  data?: { code: string; retryable: boolean }
}

const ackMs = 5000
/** Refusals that another token may mend. */
const tokenFaults: ReadonlySet<string> = new Set(['TOKEN_EXPIRED', 'UNAUTHORIZED'])
const maxRenewals = 8

/**
 * Keeps a socket signed in while its session lasts: gives it a token when it connects and when the
 * token is about to expire, and reconnects where socket.io-client gives up.
 * @returns a function that stops it.
 */
export function keepSignedIn(socket: SignedSocket, hooks: SignInHooks): () => void {
  const stopped = new AbortController()
  let failures = 0
  let given: string | undefined
  let refused: string | undefined

  async function nextToken(): Promise<string> {
    given = await hooks.token(refused)
    return given
  }

  socket.auth = (give: (auth: object) => void) => {
    // Without a token the server closes the connection, and the next one asks for a token again.
    nextToken().then((token) => give({ token }), ignore)
  }

  async function renew(): Promise<void> {
    refused = given
    try {
      const token = await nextToken()
      await socket.timeout(ackMs).emitWithAck('authenticate', { token })
    } catch {
      // The server then closes the transport; the socket reconnects and asks for a token.
    }
  }

  async function retry({ data, message }: ConnectError): Promise<void> {
    // A network failure: socket.io-client retries.
    if (!data) return
    const mayRenew = tokenFaults.has(data.code) && failures < maxRenewals
    if (mayRenew) refused = given
    else if (!data.retryable) return end(data.code, message)
    await pause(backoffMs(failures), stopped.signal)
    failures += 1
    if (!stopped.signal.aborted) socket.connect()
  }

  function end(code: string, message: string): void {
    stop()
    hooks.onEnd(code, message)
  }

  const listeners: Readonly<Record<string, (payload: never) => void>> = {
    connect: () => {
      failures = 0
    },
    connect_error: (error: ConnectError) => void retry(error),
    'token-expiring': () => void renew(),
    'session-ended': ({ code }: { code: SessionEnd }) => end(code, 'The session has ended.'),
  }

  function stop(): void {
    stopped.abort()
    for (const [event, listener] of Object.entries(listeners)) socket.off(event, listener)
  }

  for (const [event, listener] of Object.entries(listeners)) socket.on(event, listener)
  return stop
}

function ignore(): void {}
