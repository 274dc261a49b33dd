import type { TokenPair } from './types.js'

/** The tokens of a session, as they are kept. */
export interface Tokens {
  /** The access token. */
  token: string
  refreshToken: string
  /** When to renew the access token, in milliseconds since 1970 by this machine's clock. */
  renewAt: number
  userId: string
  /** This client's name for the session: the same through all renewals. */
  session: string
}

/** Where tokens are kept; what it shares with other tabs or processes, they share. */
export interface TokenStore {
  read(): Tokens | undefined | Promise<Tokens | undefined>
  write(tokens: Tokens | undefined): void | Promise<void>
  /** Calls `changed` when another tab has written; returns what stops that. */
  watch?(changed: () => void): () => void
}

/** The part of `localStorage` and `sessionStorage` that is used. */
export interface WebStorage {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
  removeItem(key: string): void
}

/** Keeps tokens as long as this object lives. */
export function memoryTokens(): TokenStore {
  let kept: Tokens | undefined
  return {
    read: () => kept,
    write(tokens) {
      kept = tokens
    },
  }
}

/** Keeps tokens in a browser's storage: `storedTokens(localStorage)` shares them between tabs. */
export function storedTokens(storage: WebStorage, key = 'durable-chat.tokens'): TokenStore {
  return {
    read: () => readJson(storage, key, isTokens),
    write(tokens) {
      if (tokens) storage.setItem(key, JSON.stringify(tokens))
      else storage.removeItem(key)
    },
    watch: (changed) => watchStorage(key, changed),
  }
}

/** A value that was stored as JSON; undefined where there is none, or one that `isRight` refuses. */
export function readJson<T>(
  storage: WebStorage,
  key: string,
  isRight: (value: unknown) => value is T,
): T | undefined {
  try {
    const value: unknown = JSON.parse(storage.getItem(key) ?? 'null')
    return isRight(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** Tells of other tabs' writes, where there are tabs. */
function watchStorage(key: string, changed: () => void): () => void {
  const target: Partial<EventTarget> = globalThis as Partial<EventTarget>
  const listener = (event: object) => {
    // Null when the whole storage was cleared.
    const { key: written } = event as { key?: string | null }
    if (written === key || written === null) changed()
  }
  target.addEventListener?.('storage', listener)
  return () => target.removeEventListener?.('storage', listener)
}

function isTokens(value: unknown): value is Tokens {
  const tokens = value as Partial<Tokens> | null
  return (
    typeof tokens?.token === 'string' &&
    typeof tokens.refreshToken === 'string' &&
    typeof tokens.renewAt === 'number' &&
    typeof tokens.userId === 'string' &&
    typeof tokens.session === 'string'
  )
}

/** An access token is renewed this long before it expires, in milliseconds, or at three quarters of its life. */
const marginMs = 30_000

/** The tokens to keep of a pair that was just received. */
export function tokensOf(pair: TokenPair, session: Pick<Tokens, 'session' | 'userId'>): Tokens {
  const lifeMs = pair.expiresIn * 1000
  return {
    token: pair.token,
    refreshToken: pair.refreshToken,
    renewAt: Date.now() + lifeMs - Math.min(marginMs, lifeMs / 4),
    userId: session.userId,
    session: session.session,
  }
}
