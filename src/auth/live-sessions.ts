import { LRUCache } from 'lru-cache'
import type { Store } from '../stores/store.js'

const maxSessions = 100_000
/**
 * A session that another server ended is let in for no longer than this, should the news be lost.
 */
const trustMs = 1000

interface Look {
  userId: Promise<string | undefined>
  at: number
}

/**
 * Which sessions the store has, asked at most once a second for each. Looks are shared by those
 * who come meanwhile; `forget` makes the next one ask again.
 */
export function createLiveSessions(store: Store, now: () => number) {
  const looks = new LRUCache<string, Look>({ max: maxSessions })

  async function ask(sessionId: string): Promise<string | undefined> {
    const session = await store.findSession(sessionId)
    return session && session.expiresAt.getTime() > now() ? session.userId : undefined
  }

  async function lookUp(sessionId: string): Promise<string | undefined> {
    const look: Look = { userId: ask(sessionId), at: now() }
    looks.set(sessionId, look)
    const forgetLook = () => {
      if (looks.peek(sessionId) === look) looks.delete(sessionId)
    }
    try {
      const userId = await look.userId
      // What is not there costs no memory.
      if (userId === undefined) forgetLook()
      return userId
    } catch (error) {
      forgetLook()
      throw error
    }
  }

  return {
    /** The user of a session that is there. */
    find(sessionId: string): Promise<string | undefined> {
      const known = looks.get(sessionId)
      return known && now() - known.at < trustMs ? known.userId : lookUp(sessionId)
    },

    forget(sessionId: string): void {
      looks.delete(sessionId)
    },
  }
}
