import { setTimeout as delay } from 'node:timers/promises'
import { newId } from '../ids.js'
import type { Cache } from './cache.js'

interface Key {
  key: string
  ttlMs: number
}

interface PageKey extends Key {
  /** Holds the name of the state that was read; whoever changes the state deletes it. */
  state: Key
}

interface Answer {
  value: object
  /** Whether every change of it is followed by `forget`. */
  lasts: boolean
}

/** A longer answer, in bytes of JSON, is not cached: it would push out hundreds of others. */
const maxCachedBytes = 256 * 1024

/**
 * The cached answer, else what `read` resolves with, which is then cached; as JSON. An answer that
 * was read before a change and cached after it bears the name of the old state, and is not believed.
 * The two keys need not lie on one node.
 */
export async function readThrough(
  cache: Cache,
  { key, ttlMs, state: { key: stateKey, ttlMs: stateTtlMs } }: PageKey,
  read: () => Promise<Answer>,
): Promise<Buffer> {
  const [known, cached] = await Promise.all([cache.get(stateKey), cache.getBytes(key)])
  if (known !== undefined && cached?.toString('latin1', 0, known.length) === known) {
    return cached.subarray(known.length)
  }
  const state = known ?? newId()
  // Before the store is read: a change from here on deletes the name.
  if (known === undefined) await cache.set(stateKey, state, stateTtlMs)
  const { value, lasts } = await read()
  const named = encode(state + JSON.stringify(value))
  if (lasts && named.length <= maxCachedBytes) await cache.set(key, named, ttlMs)
  return named.subarray(state.length)
}

/** Bytes of their own: a cached slice of Node's pool would keep all of the pool in memory. */
function encode(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text))
  bytes.write(text)
  return bytes
}

/** Must be called after each change of the state. */
export function forget(cache: Cache, state: Key): Promise<void> {
  return cache.delete(state.key)
}

export interface Dated<T> {
  value: T
  /** When it was asked for, in milliseconds since 1970. */
  at: number
}

/** In milliseconds. A clock that was set back makes nothing younger. */
export const ageOf = ({ at }: Dated<unknown>): number => Math.abs(Date.now() - at)

/** How often a server looks whether another has fetched, in milliseconds. */
const lookEveryMs = 50

/**
 * The cached value unless it is `maxAgeMs` old, else what `fetch` resolves with, which is then cached.
 * One server fetches at a time; the others wait for what it stores, at most for the lock's life.
 */
export async function fetchOnce<T>(
  cache: Cache,
  { key, ttlMs, lock }: Key & { lock: Key },
  maxAgeMs: number,
  fetch: () => Promise<T>,
): Promise<Dated<T>> {
  const deadline = performance.now() + lock.ttlMs
  const locking = () => cache.setIfAbsent(lock.key, '1', lock.ttlMs)
  let isOurs = false
  try {
    for (;;) {
      const [isLocked, text] = await Promise.all([locking(), cache.get(key)])
      isOurs = isLocked
      const found: Dated<T> | undefined = text && JSON.parse(text)
      if (found && ageOf(found) < maxAgeMs) return found
      if (isOurs || performance.now() > deadline) break
      await delay(lookEveryMs)
    }
    const at = Date.now()
    const fetched = { value: await fetch(), at }
    await cache.set(key, JSON.stringify(fetched), ttlMs)
    return fetched
  } finally {
    if (isOurs) await cache.delete(lock.key)
  }
}
