import { backoffMs, pause } from './backoff.js'
import { ChatError } from './chat-error.js'
import { Listeners } from './listeners.js'
import type { TokenSource } from './requests.js'
import { type TokenStore, type Tokens, tokensOf } from './token-store.js'
import type { SignedIn, TokenPair } from './types.js'

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request<T>(
    name: string,
    options: { signal?: AbortSignal; ifAvailable?: boolean },
    run: (lock: unknown) => Promise<T>,
  ): Promise<T>
}

export interface SessionEvents {
  /** Somebody signed in here, or in another tab. */
  'signed-in': { userId: string }
  /** The session ended: `code` is `LOGGED_OUT`, `TOKEN_REUSED`, `ACCOUNT_DELETED` or the refusal's. */
  'signed-out': { code: string; message: string }
}

interface SessionParts {
  store: TokenStore
  /** Exchanges a refresh token for the next pair. */
  refresh: (refreshToken: string) => Promise<TokenPair>
  /** Where the store is shared between tabs. */
  locks: Locks | undefined
  /** The server's, so that tabs of several servers do not wait for each other. */
  lockName: string
}

const maxFailures = 4
/** A tab that is frozen while it holds the lock must not stop the others. */
const lockMs = 10_000
/** How long a pair that was spent is marked for other tabs, which may see the next one late. */
const spentMs = 10_000
const lookMs = 20
const maxLooks = 50
/** Errors that end a session, whichever call meets them. */
const endCodes: ReadonlySet<string> = new Set(['LOGGED_OUT', 'TOKEN_REUSED', 'ACCOUNT_DELETED'])

/**
 * The tokens of the one who is signed in, renewed in this one place for REST, server-sent events and
 * sockets: once for many callers, and once for many tabs that share a store and Web Locks.
 */
export class Session implements TokenSource {
  readonly events = new Listeners<SessionEvents>()
  readonly #parts: SessionParts
  readonly #stopWatching: (() => void) | undefined
  #renewing: Promise<Tokens> | undefined
  /** The session that this client last heard of. */
  #current: string | undefined

  constructor(parts: SessionParts) {
    this.#parts = parts
    this.#stopWatching = parts.store.watch?.(() => void this.#compare())
  }

  /** The user who is signed in; undefined when nobody is. */
  async userId(): Promise<string | undefined> {
    return (await this.#read())?.userId
  }

  async start({ user, ...pair }: SignedIn): Promise<void> {
    const session = randomName()
    await this.#parts.store.write(tokensOf(pair, { session, userId: user.id }))
    this.#current = session
    this.events.tell('signed-in', { userId: user.id })
  }

  /** @throws ChatError SIGNED_OUT, or why the renewal failed. */
  async token(refused?: string): Promise<string> {
    const tokens = await this.#read()
    if (!tokens) throw signedOut()
    if (isUsable(tokens, refused)) return tokens.token
    this.#renewing ??= this.#locked(() => this.#renew(refused)).finally(() => {
      this.#renewing = undefined
    })
    return (await this.#renewing).token
  }

  refusedWith(error: unknown): void {
    if (error instanceof ChatError && endCodes.has(error.code)) {
      void this.end(error.code, error.message)
    }
  }

  /** Forgets the tokens of the session that ended, and tells of it. */
  async end(code: string, message: string, session = this.#current): Promise<void> {
    if (session === undefined || session !== this.#current) return
    this.#current = undefined
    // Another tab may have signed in again meanwhile.
    const kept = await this.#parts.store.read()
    if (kept?.session === session) await this.#parts.store.write(undefined)
    this.events.tell('signed-out', { code, message })
  }

  close(): void {
    this.#stopWatching?.()
  }

  async #read(): Promise<Tokens | undefined> {
    const tokens = await this.#parts.store.read()
    if (tokens) this.#current = tokens.session
    return tokens
  }

  /** Another tab has written: it renewed the tokens, signed in, or signed out. */
  async #compare(): Promise<void> {
    const before = this.#current
    const tokens = await this.#parts.store.read()
    if (tokens?.session === before) return
    if (before !== undefined) {
      await this.end('LOGGED_OUT', 'The session was ended in another tab.', before)
    }
    if (!tokens) return
    this.#current = tokens.session
    this.events.tell('signed-in', { userId: tokens.userId })
  }

  /** One tab at a time, where there are Web Locks; the server bears two. */
  async #locked(renew: () => Promise<Tokens>): Promise<Tokens> {
    const { locks, lockName } = this.#parts
    if (!locks) return renew()
    const limit = new AbortController()
    const timer = setTimeout(() => limit.abort(), lockMs)
    let hasBegun = false
    const run = () => {
      hasBegun = true
      clearTimeout(timer)
      return renew()
    }
    try {
      return await locks.request(lockName, { signal: limit.signal }, run)
    } catch (error) {
      if (hasBegun) throw error
      return await renew()
    } finally {
      clearTimeout(timer)
    }
  }

  async #renew(refused: string | undefined): Promise<Tokens> {
    for (let failures = 0; ; failures += 1) {
      const tokens = await this.#newest()
      if (!tokens) throw signedOut()
      if (isUsable(tokens, refused)) return tokens
      try {
        return await this.#keep(await this.#parts.refresh(tokens.refreshToken), tokens)
      } catch (error) {
        if (!(error instanceof ChatError)) throw error
        if (error.status === 401) {
          // Without locks another tab may have used the refresh token first.
          const newer = await this.#read()
          if (newer?.session === tokens.session && newer.token !== tokens.token) return newer
          await this.end(error.code, error.message, tokens.session)
        }
        if (!error.retryable || failures === maxFailures) throw error
        // A lost answer leaves ten seconds in which the spent token gives the newest pair again.
        await pause(
          Math.max(error.retryAfterMs, error.code === 'TIMEOUT' ? 0 : backoffMs(failures)),
        )
      }
    }
  }

  async #keep(pair: TokenPair, before: Tokens): Promise<Tokens> {
    const tokens = tokensOf(pair, before)
    // Signed out, or in as another, meanwhile.
    const now = await this.#parts.store.read()
    if (now?.session !== before.session) throw signedOut()
    await this.#parts.store.write(tokens)
    await this.#markSpent(before)
    return tokens
  }

  /** Another tab's write may be seen late, but the mark that it leaves under a lock is seen at once. */
  async #newest(): Promise<Tokens | undefined> {
    for (let looks = 0; ; looks += 1) {
      const tokens = await this.#read()
      if (!tokens || looks === maxLooks || !(await this.#isSpent(tokens))) return tokens
      await pause(lookMs)
    }
  }

  #isSpent(tokens: Tokens): Promise<boolean> {
    const { locks } = this.#parts
    if (!locks) return Promise.resolve(false)
    const options = { ifAvailable: true }
    return locks.request(this.#markOf(tokens), options, async (lock) => lock === null)
  }

  async #markSpent(tokens: Tokens): Promise<void> {
    const { locks } = this.#parts
    if (!locks) return
    await new Promise<void>((granted) => {
      const hold = () => {
        granted()
        return pause(spentMs)
      }
      // It fails only when the page goes away.
      locks.request(this.#markOf(tokens), {}, hold).catch(() => granted())
    })
  }

  #markOf({ session, renewAt }: Tokens): string {
    return `${this.#parts.lockName} spent ${session} ${renewAt}`
  }
}

const isUsable = (tokens: Tokens, refused: string | undefined) =>
  tokens.token !== refused && tokens.renewAt > Date.now()

const signedOut = () => new ChatError('SIGNED_OUT', 'Nobody is signed in: sign in first.')

/** A random name of 32 hex digits; unlike `randomUUID` it also works on plain http. */
export function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
