import { newId } from '../ids.js'
import type { Cache } from './cache.js'

interface Kept {
  key: string
  ttlMs: number
  /** Under it is a name of the state that was read; whoever changes the state takes the name away. */
  stateKey: string
  stateTtlMs: number
}

/**
 * The cached value, else what `read` resolves with, which is then cached. What is read before a
 * change, by whichever server, and cached after it bears the name of a state that is over, and is
 * not believed. The two keys need not lie on one node.
 */
export async function readThrough<T>(
  cache: Cache,
  { key, ttlMs, stateKey, stateTtlMs }: Kept,
  read: () => Promise<T>,
): Promise<T> {
  const [known, cached] = await Promise.all([cache.get(stateKey), cache.get(key)])
  if (known !== undefined && cached !== undefined) {
    const { state, value } = JSON.parse(cached) as { state: string; value: T }
    if (state === known) return value
  }
  const state = known ?? newId()
  // Before it is read: a change from here on takes the name away.
  if (known === undefined) await cache.set(stateKey, state, stateTtlMs)
  const value = await read()
  await cache.set(key, JSON.stringify({ state, value }), ttlMs)
  return value
}

/** To be called after each change, wherever it was made. */
export async function forget(cache: Cache, { key, stateKey }: Kept): Promise<void> {
  await Promise.all([cache.delete(stateKey), cache.delete(key)])
}
