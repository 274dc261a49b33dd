import { createHash, randomBytes } from 'node:crypto'

/** A new ObjectId in hex: seconds since 1970, then 64 random bits. */
export function newId(): string {
  const seconds = Math.floor(Date.now() / 1000)
  return seconds.toString(16).padStart(8, '0') + randomBytes(8).toString('hex')
}

/** The same ObjectId in hex for the same parts, so that a repeated insert meets itself. */
export function derivedId(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 24)
}
