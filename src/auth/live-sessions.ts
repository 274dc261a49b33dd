import { LRUCache } from 'lru-cache'
import type { SessionEnd } from '../../schemas/auth.js'
import type { Cache } from '../cache/cache.js'
import { sessionKey, sessionsEndingKey } from '../cache/keys.js'
import type { Store } from '../stores/store.js'
import type { Access } from './tokens.js'

const maxSessions = 100_000
/** How long this process believes what it was told of a session, in milliseconds. */
const trustMs = 1000
/** The cached value of a session that does not exist; lru-cache rejects a fetch that finds nothing. */
const absent = ''
/** How many sessions the store is asked about at once. */
const reviewBatch = 1000

/** A session and its user. */
export type SessionOwner = Pick<Access, 'sessionId' | 'userId'>

type EndListener = (code: SessionEnd) => void

const sessionEnds: ReadonlySet<string> = new Set([
  'LOGGED_OUT',
  'TOKEN_REUSED',
  'ACCOUNT_DELETED',
] satisfies SessionEnd[])

export const isSessionEnd = (code: string | undefined): code is SessionEnd =>
  code !== undefined && sessionEnds.has(code)

interface LiveSessionsParts {
  store: Store
  cache: Cache
  /** How long an end is remembered, in milliseconds: an access token's life. */
  rememberMs: number
  /** The clock, in milliseconds since 1970. */
  now: () => number
}

/**
 * The sessions as this server knows them: which are live, by the shared cache and else by the store;
 * which ended; and what is open in their name, to be told of an end.
 */
export class LiveSessions {
  /** The session's user, or the code of its end. */
  readonly #known: LRUCache<string, string, string>
  readonly #ended: LRUCache<string, SessionEnd>
  readonly #listeners = new Map<string, Set<EndListener>>()

  constructor(private readonly parts: LiveSessionsParts) {
    const { rememberMs: ttl, now } = parts
    const clock = { ttlResolution: 0, perf: { now } }
    this.#ended = new LRUCache({ max: maxSessions, ttl, ...clock })
    this.#known = new LRUCache({
      ...{ max: maxSessions, ttl: trustMs, ...clock },
      // A look whose entry is pushed out answers all the same.
      ignoreFetchAbort: true,
      fetchMethod: async (sessionId, _stale, { context: userId, options }) => {
        const askedAt = now()
        const found = await this.#look({ sessionId, userId })
        options.ttl = found === absent ? 1 : Math.max(1, trustMs - (now() - askedAt))
        return found
      },
    })
  }

  /** Whether a session is there. An end that was heard wins over the cache and the store. */
  async isLive({ sessionId, userId }: SessionOwner): Promise<boolean> {
    if (this.#ended.has(sessionId)) return false
    const found = await this.#known.fetch(sessionId, { context: userId })
    if (isSessionEnd(found)) this.end(sessionId, found)
    return found === userId && !this.#ended.has(sessionId)
  }

  /** Why a session ended, as far as this server has heard. */
  endOf(sessionId: string): SessionEnd | undefined {
    return this.#ended.get(sessionId)
  }

  /** A session has ended: whatever is open in its name is told, once. */
  end(sessionId: string, code: SessionEnd): void {
    if (this.#ended.has(sessionId)) return
    this.#ended.set(sessionId, code)
    const listeners = this.#listeners.get(sessionId) ?? []
    this.#listeners.delete(sessionId)
    for (const listener of listeners) listener(code)
  }

  /** Calls `onEnd` when the session ends, at once if it has. @returns what ends the watch. */
  watch(sessionId: string, onEnd: EndListener): () => void {
    const code = this.#ended.get(sessionId)
    if (code) {
      onEnd(code)
      return () => {}
    }
    const listeners = this.#listeners.get(sessionId) ?? new Set()
    this.#listeners.set(sessionId, listeners.add(onEnd))
    return () => {
      listeners.delete(onEnd)
      if (listeners.size === 0 && this.#listeners.get(sessionId) === listeners) {
        this.#listeners.delete(sessionId)
      }
    }
  }

  isWatched(sessionId: string): boolean {
    return this.#listeners.has(sessionId)
  }

  /** The watched sessions that the store does not have any more. */
  async findLost(): Promise<string[]> {
    const { store, now } = this.parts
    const watched = [...this.#listeners.keys()]
    const lost: string[] = []
    for (let from = 0; from < watched.length; from += reviewBatch) {
      const batch = watched.slice(from, from + reviewBatch)
      const live = new Set(await store.findLiveSessions(batch, new Date(now())))
      lost.push(...batch.filter((sessionId) => !live.has(sessionId)))
    }
    return lost
  }

  /** The session's user, the code of its end, or `absent`. */
  async #look({ sessionId, userId }: SessionOwner): Promise<string> {
    const { store, cache, now } = this.parts
    const { key, ttlMs } = sessionKey(sessionId)
    const [cached, ending] = await Promise.all([
      cache.get(key),
      cache.get(sessionsEndingKey(userId).key),
    ])
    if (cached !== undefined && (ending === undefined || isSessionEnd(cached))) return cached
    const session = await store.findSession(sessionId)
    const leftMs = session ? session.expiresAt.getTime() - now() : 0
    if (!session || leftMs <= 0) return absent
    if (ending !== undefined) return session.userId
    const isNew = await cache.setIfAbsent(key, session.userId, Math.min(ttlMs, leftMs))
    // Another server may have written a tombstone meanwhile, which wins over the store's answer.
    return (isNew ? undefined : await cache.get(key)) ?? session.userId
  }
}
