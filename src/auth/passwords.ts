import { randomBytes } from 'node:crypto'
import bcrypt from 'bcrypt'
import pLimit from 'p-limit'
import { AppError } from '../errors.js'

/** bcrypt reads no further. */
const maxBytes = 72
/** All of `fs` and `dns` share four threads with bcrypt. */
const hashesAtOnce = 2
const maxWaiting = 250

export type Passwords = Awaited<ReturnType<typeof createPasswords>>

/**
 * Hashing and checking of passwords, few at once.
 * @param cost bcrypt's: 12 takes a quarter of a second.
 */
export async function createPasswords(cost: number) {
  const limit = pLimit(hashesAtOnce)
  const dummyHash = await bcrypt.hash(randomBytes(16).toString('hex'), cost)

  async function inLine<T>(work: () => Promise<T>): Promise<T> {
    if (limit.pendingCount >= maxWaiting) throw new AppError('TOO_BUSY', { retryAfter: 5 })
    return limit(work)
  }

  return {
    /** @throws AppError PASSWORD_TOO_LONG. */
    assertUsable(password: string): void {
      if (Buffer.byteLength(password) > maxBytes) throw new AppError('PASSWORD_TOO_LONG')
    },

    /** @throws AppError TOO_BUSY when too many wait already. */
    async hash(password: string): Promise<string> {
      return inLine(() => bcrypt.hash(password, cost))
    },

    /**
     * Takes as long without a hash, for an account that does not exist.
     * @throws AppError TOO_BUSY when too many wait already.
     */
    async verify(password: string, hash: string | undefined): Promise<boolean> {
      const matches = await inLine(() => bcrypt.compare(password, hash ?? dummyHash))
      return matches && hash !== undefined && Buffer.byteLength(password) <= maxBytes
    },
  }
}
