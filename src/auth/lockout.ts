import { hash } from 'node:crypto'
import type { Cache } from '../cache/cache.js'
import { limitKey } from '../cache/keys.js'
import { AppError } from '../errors.js'

const windowMs = 5 * 60_000

/** Counts an account's failed logins; past `maxFailures` in five minutes it takes no more. */
export function createLockout(cache: Cache, maxFailures: number) {
  // A name that was tried may be long, and is nobody's to read in the cache.
  const keyOf = (account: string) => limitKey('login', hash('sha256', account, 'base64url'))

  return {
    /** @throws AppError RATE_LIMITED with the seconds left. */
    async check(account: string): Promise<void> {
      const { count, resetMs } = await cache.hit(keyOf(account), windowMs, 0)
      if (count < maxFailures) return
      throw new AppError('RATE_LIMITED', {
        message: 'Too many failed logins for this account: try again later.',
        retryAfter: Math.max(1, Math.ceil(resetMs / 1000)),
      })
    },

    async fail(account: string): Promise<void> {
      await cache.hit(keyOf(account), windowMs)
    },

    async reset(account: string): Promise<void> {
      await cache.delete(keyOf(account))
    },
  }
}
