import { hash, randomUUID } from 'node:crypto'

/** A new ObjectId in hex: seconds since 1970, then 64 random bits. */
export function newId(): string {
  const seconds = Math.floor(Date.now() / 1000)
  // Node keeps randomness for many UUIDs; their ends are all random.
  const uuid = randomUUID()
  return seconds.toString(16).padStart(8, '0') + uuid.slice(0, 4) + uuid.slice(-12)
}

/** The same ObjectId in hex for the same parts, so that a repeated insert meets itself. */
export function derivedId(...parts: readonly string[]): string {
  return hash('sha256', JSON.stringify(parts)).slice(0, 24)
}
