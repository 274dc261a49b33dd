import { hash } from 'node:crypto'
import type { Cache } from '../cache/cache.js'
import { knownNetworkKey, limitKey } from '../cache/keys.js'
import { AppError } from '../errors.js'
import type { Log } from '../logging.js'

/** A try to prove a password. */
export interface LoginAttempt {
  /** The name as it was typed, in the form in which names are unique. */
  name: string
  /** The account that has the name, if there is one. */
  userId: string | undefined
  /** The client's network. */
  network: string
}

const windowMs = 5 * 60_000
const hourMs = 60 * 60_000
/** Failures of a name in an hour, by all networks, after which attempts have to wait. */
const slowAfter = 100
const maxWaitMs = 30_000

/**
 * Limits the guessing of passwords, and lets no stranger lock an account's owner out.
 *
 * A network that fails `maxFailures` times in five minutes with a name is refused that name until
 * they are over. When all networks together have failed 100 times in an hour, each has to wait up
 * to 30 seconds before its next attempt, except one that has logged in to the account within 30 days.
 *
 * Failures are counted by name, not by account. A username and an email of one account have limits of
 * their own, as a name of nobody has, so that the limits never show which names belong together or
 * exist; the price is that an account with two names can be guessed at twice as often.
 *
 * @param maxFailures infinite: nothing is limited.
 */
export function createLockout(cache: Cache, maxFailures: number, log: Pick<Log, 'info' | 'warn'>) {
  // Hashed: a name may be long, or a password that was typed into the wrong field.
  const keyOf = (limit: string, ...parts: string[]) =>
    limitKey(limit, hash('sha256', parts.join(' '), 'base64url'))
  const pairKey = ({ name, network }: LoginAttempt) => keyOf('login', network, name)
  const nameKey = ({ name }: LoginAttempt) => keyOf('login-name', name)

  async function isKnownNetwork({ userId, network }: LoginAttempt): Promise<boolean> {
    if (userId === undefined) return false
    return (await cache.get(knownNetworkKey(userId, network).key)) !== undefined
  }

  /** Refuses a network until `waitMs` after its first attempt. */
  async function wait({ name, network }: LoginAttempt, waitMs: number): Promise<void> {
    const key = keyOf('login-wait', network, name)
    const { resetMs } = await cache.hit(key, windowMs)
    const leftMs = waitMs - (windowMs - resetMs)
    if (leftMs > 0) {
      throw refusal('Many logins with this name have failed: wait before you try again.', leftMs)
    }
    await cache.delete(key)
  }

  /** @throws AppError RATE_LIMITED with the seconds left. */
  async function assertOpen(attempt: LoginAttempt): Promise<void> {
    const { count, resetMs } = await cache.hit(pairKey(attempt), windowMs, 0)
    if (count < maxFailures) return
    throw refusal('Too many logins with this name have failed: try again later.', resetMs)
  }

  return {
    /** @throws AppError RATE_LIMITED with the seconds left. */
    async check(attempt: LoginAttempt): Promise<void> {
      if (!Number.isFinite(maxFailures)) return
      const [{ count }] = await Promise.all([
        cache.hit(nameKey(attempt), hourMs, 0),
        assertOpen(attempt),
      ])
      if (count < slowAfter || (await isKnownNetwork(attempt))) return
      await wait(attempt, Math.min(maxWaitMs, (count - slowAfter + 1) * 1000))
    },

    /** Counts a wrong password. */
    async fail(attempt: LoginAttempt): Promise<void> {
      const { userId, network } = attempt
      log.info({ event: 'login-failed', userId, network }, 'a login failed')
      if (!Number.isFinite(maxFailures)) return
      const [ofPair, ofName] = await Promise.all([
        cache.hit(pairKey(attempt), windowMs),
        cache.hit(nameKey(attempt), hourMs),
      ])
      if (ofPair.count === maxFailures) {
        log.warn(
          { event: 'login-locked', userId, network, seconds: seconds(ofPair.resetMs) },
          'a network failed too many logins with one name; it is refused that name for a while',
        )
      }
      if (ofName.count === slowAfter) {
        log.warn(
          { event: 'login-slowed', userId, seconds: seconds(ofName.resetMs) },
          'many logins with one name failed; networks that are new to the account have to wait',
        )
      }
    },

    /**
     * Ends the network's count after a right password.
     * @throws AppError RATE_LIMITED where guesses that ran alongside reached the limit.
     */
    async succeed(attempt: LoginAttempt & { userId: string }): Promise<void> {
      if (Number.isFinite(maxFailures)) {
        await assertOpen(attempt)
        await cache.delete(pairKey(attempt))
      }
      await this.remember(attempt.userId, attempt.network)
    },

    /** Remembers that a network has logged in to an account. */
    async remember(userId: string, network: string): Promise<void> {
      const { key, ttlMs } = knownNetworkKey(userId, network)
      await cache.set(key, '1', ttlMs)
    },
  }
}

const seconds = (ms: number) => Math.max(1, Math.ceil(ms / 1000))

const refusal = (message: string, ms: number) =>
  new AppError('RATE_LIMITED', { message, retryAfter: seconds(ms) })
