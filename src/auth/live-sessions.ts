import { LRUCache } from 'lru-cache'
import type { SessionEnd } from '../../schemas/auth.js'
import type { Store } from '../stores/store.js'

const maxSessions = 100_000
/** A session whose end was not heard is let in for no longer than this, in milliseconds. */
const trustMs = 1000
/** How many sessions the store is asked about at once. */
const reviewBatch = 1000

interface Look {
  userId: Promise<string | undefined>
  at: number
}

type EndListener = (code: SessionEnd) => void

interface LiveSessionsParts {
  store: Store
  /** How long an end is remembered, in milliseconds: an access token's life. */
  rememberMs: number
  /** The clock, in milliseconds since 1970. */
  now: () => number
}

/**
 * The sessions as this server knows them: whether each is there, asked of the store at most once a
 * second; which ended; and what is open in their name, to be told of an end.
 */
export class LiveSessions {
  readonly #looks = new LRUCache<string, Look>({ max: maxSessions })
  readonly #ended: LRUCache<string, SessionEnd>
  readonly #listeners = new Map<string, Set<EndListener>>()

  constructor(private readonly parts: LiveSessionsParts) {
    const { rememberMs: ttl, now } = parts
    this.#ended = new LRUCache({ max: maxSessions, ttl, ttlResolution: 0, perf: { now } })
  }

  /** The user of a session that is there. */
  async find(sessionId: string): Promise<string | undefined> {
    if (this.#ended.has(sessionId)) return undefined
    const known = this.#looks.get(sessionId)
    const isFresh = known && this.parts.now() - known.at < trustMs
    // Callers resume in the order they came, whether they share a look or begin one.
    const userId = await (isFresh ? known : this.#lookUp(sessionId)).userId
    // An end that was heard meanwhile wins over what the store said before.
    return this.#ended.has(sessionId) ? undefined : userId
  }

  /** Why a session ended, as far as this server has heard. */
  endOf(sessionId: string): SessionEnd | undefined {
    return this.#ended.get(sessionId)
  }

  /** A session has ended: whatever is open in its name is told, once. */
  end(sessionId: string, code: SessionEnd): void {
    if (this.#ended.has(sessionId)) return
    this.#ended.set(sessionId, code)
    this.#looks.delete(sessionId)
    const listeners = this.#listeners.get(sessionId) ?? []
    this.#listeners.delete(sessionId)
    for (const listener of listeners) listener(code)
  }

  /** Calls `onEnd` when the session ends, at once if it has. @returns the way to stop. */
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

  #lookUp(sessionId: string): Look {
    const look: Look = { userId: this.#ask(sessionId), at: this.parts.now() }
    this.#looks.set(sessionId, look)
    const forgetLook = () => {
      if (this.#looks.peek(sessionId) === look) this.#looks.delete(sessionId)
    }
    // What is not there costs no memory, and what failed is asked again.
    look.userId.then((userId) => {
      if (userId === undefined) forgetLook()
    }, forgetLook)
    return look
  }

  async #ask(sessionId: string): Promise<string | undefined> {
    const { store, now } = this.parts
    const session = await store.findSession(sessionId)
    return session && session.expiresAt.getTime() > now() ? session.userId : undefined
  }
}
