import { LRUCache } from 'lru-cache'
import type { Cache } from '../cache/cache.js'
import { limitKey } from '../cache/keys.js'
import type { OpenCounts } from '../cache/open-counts.js'
import { AppError } from '../errors.js'

interface Limits {
  requestsPerMinute: number
  streams: number
  sockets: number
}

/** How far a limit of requests is used. */
export interface RequestsLeft {
  limit: number
  remaining: number
  /** Until all are left again. */
  resetMs: number
}

/** A user's requests in the current minute. */
interface Window {
  /** As far as is known here, at all servers. */
  count: number
  endsAt: number
  /** Counted here and not yet in the cache. */
  untold: number
  isTelling: boolean
}

const minuteMs = 60_000
const maxUsers = 50_000

/** Limits how much one user may ask of all servers. A limit that is infinite is off. */
export class UserLimits {
  readonly #windows = new LRUCache<string, Window>({ max: maxUsers })

  constructor(
    private readonly cache: Cache,
    private readonly open: OpenCounts,
    private readonly limits: Limits,
  ) {}

  /**
   * Counts a request or a socket's event. The count is shared with other servers in the background:
   * no request waits for it, and many are counted at once.
   * @returns what is left; undefined where the limit is off.
   * @throws AppError RATE_LIMITED with the seconds left.
   */
  countRequest(userId: string): RequestsLeft | undefined {
    const { requestsPerMinute } = this.limits
    if (!Number.isFinite(requestsPerMinute)) return undefined
    const now = Date.now()
    let window = this.#windows.get(userId)
    if (!window || window.endsAt <= now) {
      window = { count: 0, endsAt: now + minuteMs, untold: 0, isTelling: false }
      this.#windows.set(userId, window)
    }
    if (window.count >= requestsPerMinute) {
      throw new AppError('RATE_LIMITED', {
        message: `An account has ${requestsPerMinute} requests a minute: try again later.`,
        retryAfter: Math.max(1, Math.ceil((window.endsAt - now) / 1000)),
      })
    }
    window.count += 1
    window.untold += 1
    if (!window.isTelling) void this.#tell(userId, window)
    return {
      limit: requestsPerMinute,
      remaining: Math.max(0, requestsPerMinute - window.count),
      resetMs: window.endsAt - now,
    }
  }

  async #tell(userId: string, window: Window): Promise<void> {
    const told = window.untold
    window.untold = 0
    window.isTelling = true
    const { count, resetMs } = await this.cache.hit(limitKey('requests', userId), minuteMs, told)
    window.count = count + window.untold
    window.endsAt = Date.now() + resetMs
    window.isTelling = false
  }

  /** @returns what closes it. @throws AppError RATE_LIMITED. */
  openStream(userId: string): Promise<() => void> {
    return this.#open('streams', userId)
  }

  /** @returns what closes it. @throws AppError RATE_LIMITED. */
  openSocket(userId: string): Promise<() => void> {
    return this.#open('sockets', userId)
  }

  async #open(kind: 'streams' | 'sockets', userId: string): Promise<() => void> {
    const max = this.limits[kind]
    if (!Number.isFinite(max)) return () => {}
    const close = await this.open.open(limitKey(kind, userId), max)
    if (close) return close
    throw new AppError('RATE_LIMITED', {
      message: `An account has at most ${max} ${kind} open: close one, or try again later.`,
      retryAfter: 5,
    })
  }
}
