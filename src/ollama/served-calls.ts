import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Cache } from '../cache/cache.js'
import { servedCallKey } from '../cache/keys.js'

/** Between two writes for a model while text comes. */
const writeEveryMs = 1_000

/** Times are in milliseconds since 1970, as servers share no other clock. */
export interface ServedCall {
  /** When Ollama last worked for it. */
  at: number
  /** Whether that work is to load the model. */
  isLoading: boolean
}

interface Settings {
  /** How long a record is of use. */
  ttlMs: number
  /** A call that began at most this much later may have reached Ollama earlier. */
  reorderMs: number
}

/**
 * Tells the other servers that Ollama works for a call of this one: the calls of all servers wait in
 * Ollama's one queue.
 */
export class ServedCalls {
  readonly #server = randomUUID()
  readonly #toldAt = new LRUCache<string, number>({ max: 200 })

  constructor(
    private readonly cache: Cache,
    private readonly settings: Settings,
  ) {}

  /** Text came for a call that began at `beganAt`. */
  noteText(model: string, beganAt: number): void {
    const now = performance.now()
    const toldAt = this.#toldAt.get(model) ?? Number.NEGATIVE_INFINITY
    if (now - toldAt < writeEveryMs) return
    this.#toldAt.set(model, now)
    this.note(model, beganAt)
  }

  /** Ollama begins to load the model for a call, or was relieved of the call. */
  note(model: string, beganAt: number, isLoading = false): void {
    const record = [this.#server, Date.now(), beganAt, Number(isLoading)].join(' ')
    void this.cache.set(servedCallKey(model), record, this.settings.ttlMs)
  }

  /** The call of another server that Ollama last served, where it may come before one that began at `beganAt`. */
  async lastOfOthers(model: string, beganAt: number): Promise<ServedCall | undefined> {
    const record = await this.cache.get(servedCallKey(model))
    const [server, ...numbers] = record?.split(' ') ?? []
    const [at = 0, otherBeganAt = 0, isLoading] = numbers.map(Number)
    if (server === undefined || server === this.#server) return undefined
    if (otherBeganAt > beganAt + this.settings.reorderMs) return undefined
    return { at, isLoading: isLoading === 1 }
  }
}
