import { newId } from '../ids.js'
import type { Cache } from './cache.js'

interface Key {
  key: string
  ttlMs: number
}

interface Kept extends Key {
  /** Under it is a name of the state that was read; whoever changes the state takes the name away. */
  state: Key
}

interface Answer {
  value: object
  /** Whether only who then calls `forget` can change it. */
  lasts: boolean
}

/** A longer answer, in bytes of JSON, is not kept: it would push out hundreds of others. */
const maxKeptBytes = 256 * 1024

/**
 * The cached answer, else what `read` resolves with, which is then cached; as JSON. What is read
 * before a change, by whichever server, and cached after it bears the name of a state that is over,
 * and is not believed. The two keys need not lie on one node.
 */
export async function readThrough(
  cache: Cache,
  { key, ttlMs, state: { key: stateKey, ttlMs: stateTtlMs } }: Kept,
  read: () => Promise<Answer>,
): Promise<Buffer> {
  const [known, cached] = await Promise.all([cache.get(stateKey), cache.getBytes(key)])
  if (known !== undefined && cached?.toString('latin1', 0, known.length) === known) {
    return cached.subarray(known.length)
  }
  const state = known ?? newId()
  // Before it is read: a change from here on takes the name away.
  if (known === undefined) await cache.set(stateKey, state, stateTtlMs)
  const { value, lasts } = await read()
  const named = encode(state + JSON.stringify(value))
  if (lasts && named.length <= maxKeptBytes) await cache.set(key, named, ttlMs)
  return named.subarray(state.length)
}

/** Bytes of their own: what is kept must not keep a piece of Node's pool. */
function encode(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text))
  bytes.write(text)
  return bytes
}

/** To be called after each change, wherever it was made. */
export function forget(cache: Cache, state: Key): Promise<void> {
  return cache.delete(state.key)
}
