import { randomBytes } from 'node:crypto'
import bcrypt from 'bcrypt'
import { AppError, invalid } from '../errors.js'
import { siteOf } from './client-network.js'
import { FairLines } from './fair-lines.js'
import { weaknessOf } from './weak-passwords.js'

/** bcrypt ignores the bytes after these. */
const maxBytes = 72
const minLength = 8
/** bcrypt shares four threads with `fs` and `dns`. */
const hashesAtOnce = 2
const maxWaiting = 250

export type Passwords = Awaited<ReturnType<typeof createPasswords>>

/**
 * RFC 8265's OpaqueString: the form in which passwords are compared, however a keyboard writes them.
 * Undefined for an empty password, or one with a control character.
 */
function opaqueString(password: string): string | undefined {
  const prepared = password.replace(/\p{Zs}/gu, ' ').normalize('NFC')
  return prepared === '' || /\p{Cc}/u.test(prepared) ? undefined : prepared
}

/**
 * Hashes and checks passwords, few at once. Networks (of IPv6 the /48) are served in turn, so that
 * many attempts of one delay another's by one hash.
 * @param cost bcrypt's: 12 takes a quarter of a second.
 */
export async function createPasswords(cost: number) {
  const lines = new FairLines({ atOnce: hashesAtOnce, maxWaiting })
  const dummyHash = await bcrypt.hash(randomBytes(16).toString('hex'), cost)

  return {
    /**
     * Checks a new password. @returns the form in which it is hashed.
     * @throws AppError VALIDATION_FAILED, PASSWORD_TOO_LONG, PASSWORD_TOO_WEAK.
     */
    async prepare(password: string, username: string): Promise<string> {
      const prepared = opaqueString(password)
      if (prepared === undefined) {
        throw invalid([{ field: 'password', message: 'must not have control characters' }])
      }
      // Normalizing may have made it shorter than what the schema saw.
      if (prepared.length < minLength) {
        throw invalid([
          { field: 'password', message: `must have at least ${minLength} characters` },
        ])
      }
      if (Buffer.byteLength(prepared) > maxBytes) throw new AppError('PASSWORD_TOO_LONG')
      const weakness = await weaknessOf(prepared, username)
      if (weakness) {
        throw new AppError('PASSWORD_TOO_WEAK', { message: `${weakness} Choose another.` })
      }
      return prepared
    },

    /**
     * @param password as `prepare` gives it.
     * @throws AppError TOO_BUSY when too many wait already.
     */
    async hash(password: string, network: string): Promise<string> {
      return lines.run(siteOf(network), () => bcrypt.hash(password, cost))
    },

    /**
     * Takes as long without a hash, so that nobody learns which accounts exist.
     * @throws AppError TOO_BUSY when too many wait already.
     */
    async verify(password: string, hash: string | undefined, network: string): Promise<boolean> {
      const prepared = opaqueString(password)
      const matches = await lines.run(siteOf(network), () =>
        bcrypt.compare(prepared ?? '', hash ?? dummyHash),
      )
      if (prepared === undefined || hash === undefined) return false
      return matches && Buffer.byteLength(prepared) <= maxBytes
    },
  }
}
