import { LRUCache } from 'lru-cache'
import type { Cache } from '../cache/cache.js'
import { learntKey } from '../cache/keys.js'

/** A value is stored again when it differs by more than this share from what is stored. */
const noticeable = 0.05

interface Entry {
  value?: number
  /** What the cache has. */
  stored?: number
}

/**
 * A positive number that is learnt of each model. The cache keeps it, so with Redis it outlives this
 * process; nobody waits for the cache.
 */
export class LearntNumbers {
  readonly #entries = new LRUCache<string, Entry>({ max: 200 })

  /** @param what names the number among the cache's keys. */
  constructor(
    private readonly cache: Cache,
    private readonly what: string,
  ) {}

  /** Undefined until it is learnt, or read from the cache, which the first call for a model begins. */
  get(model: string): number | undefined {
    return this.#entryOf(model).value
  }

  set(model: string, value: number): void {
    const entry = this.#entryOf(model)
    entry.value = value
    if (entry.stored !== undefined && Math.abs(value / entry.stored - 1) <= noticeable) return
    entry.stored = value
    const { key, ttlMs } = learntKey(this.what, model)
    void this.cache.set(key, `${value}`, ttlMs)
  }

  #entryOf(model: string): Entry {
    const known = this.#entries.get(model)
    if (known) return known
    const entry: Entry = {}
    this.#entries.set(model, entry)
    void this.#read(model, entry)
    return entry
  }

  async #read(model: string, entry: Entry): Promise<void> {
    const stored = Number(await this.cache.get(learntKey(this.what, model).key))
    if (entry.value !== undefined || !Number.isFinite(stored) || stored <= 0) return
    entry.value = stored
    entry.stored = stored
  }
}
