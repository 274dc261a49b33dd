import { hash, randomUUID } from 'node:crypto'

/** A new ObjectId in hex: seconds since 1970, then 64 random bits. */
export function newId(): string {
  const seconds = Math.floor(Date.now() / 1000)
  // Node buffers random bytes for UUIDs; the first 4 and the last 12 digits are all random.
  const uuid = randomUUID()
  return seconds.toString(16).padStart(8, '0') + uuid.slice(0, 4) + uuid.slice(-12)
}

/** An ObjectId in hex derived from its parts: a repeated insert gets the same id and is a duplicate. */
export function derivedId(...parts: readonly string[]): string {
  return hash('sha256', JSON.stringify(parts)).slice(0, 24)
}
