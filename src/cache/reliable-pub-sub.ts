import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'

/** A message that is kept for servers that could not hear it. */
interface Published {
  channel: string
  text: string
  /** When Redis took it, by `performance.now()`; undefined while it has not. */
  toldAt?: number
}

/** How long messages are kept once told, and how many: the oldest goes first. */
const kept = { ms: 15_000, entries: 10_000, characters: 8 * 1024 * 1024 }
/** How much further back than asked messages are told again. */
const marginMs = 1000
/** A slow Redis, where subscriptions come late, must not be sent everything again for each of them. */
const repeatEveryMs = 1000
const maxKnownIds = 20_000

/**
 * PUBLISH that listeners can rely on. Redis forgets what it cannot deliver at once, so messages are
 * kept for a while: they are told when Redis is back, and again to a server that missed them. A
 * server drops what it has heard before.
 */
export class ReliablePubSub {
  readonly #origin = randomUUID()
  #serial = 0
  /** In the order in which they were told. */
  readonly #kept = new Set<Published>()
  #characters = 0
  /** Redis is away, or is being sent what it missed: newer messages wait. */
  #isWaiting = false
  /** Messages told since then are told again. By `performance.now()`, as the next field. */
  #repeatSince = Number.POSITIVE_INFINITY
  #repeatedAt = Number.NEGATIVE_INFINITY
  #repeatTimer: NodeJS.Timeout | undefined
  readonly #known = new LRUCache<string, true>({ max: maxKnownIds })

  /** @param publish resolves with false when Redis is away and did not take the message. */
  constructor(private readonly publish: (channel: string, text: string) => Promise<boolean>) {}

  /** Tells it now or, when Redis is away, as soon as it is back. */
  async tell(channel: string, message: string): Promise<void> {
    this.#serial += 1
    const text = `${this.#origin}${this.#serial} ${message}`
    const published: Published = { channel, text }
    this.#kept.add(published)
    this.#characters += text.length
    this.#prune()
    if (!this.#isWaiting) await this.#publish(published)
  }

  /** Tells it once, to the servers that hear it now. */
  async tellLive(channel: string, message: string): Promise<void> {
    await this.publish(channel, `${this.#origin} ${message}`)
  }

  /** @returns another server's message; undefined when it is this server's, or was heard before. */
  hear(text: string): string | undefined {
    const end = text.indexOf(' ')
    const id = text.slice(0, end)
    if (id.startsWith(this.#origin)) return undefined
    const isLive = id.length === this.#origin.length
    if (!isLive) {
      if (this.#known.has(id)) return undefined
      this.#known.set(id, true)
    }
    return text.slice(end + 1)
  }

  /** Redis is away: keeps messages until `catchUp`. */
  wait(): void {
    this.#isWaiting = true
  }

  /** Redis is back: tells what it did not take. */
  async catchUp(): Promise<void> {
    for (const published of this.#kept) {
      if (published.toldAt === undefined && !(await this.#publish(published))) return
    }
    this.#isWaiting = false
  }

  /** Tells again, soon, what was told in the last `ms` milliseconds. */
  repeat(ms: number): void {
    const now = performance.now()
    this.#repeatSince = Math.min(this.#repeatSince, now - ms - marginMs)
    const waitMs = Math.max(0, this.#repeatedAt + repeatEveryMs - now)
    this.#repeatTimer ??= setTimeout(() => void this.#repeat(), waitMs).unref()
  }

  close(): void {
    clearTimeout(this.#repeatTimer)
  }

  async #repeat(): Promise<void> {
    const since = this.#repeatSince
    this.#repeatSince = Number.POSITIVE_INFINITY
    this.#repeatedAt = performance.now()
    this.#repeatTimer = undefined
    for (const { toldAt, channel, text } of [...this.#kept]) {
      if (toldAt === undefined || toldAt < since) continue
      if (!(await this.publish(channel, text))) return
    }
  }

  async #publish(published: Published): Promise<boolean> {
    const isTold = await this.publish(published.channel, published.text)
    if (isTold) published.toldAt = performance.now()
    return isTold
  }

  #prune(): void {
    const before = performance.now() - kept.ms
    for (const published of this.#kept) {
      const isOld = published.toldAt !== undefined && published.toldAt < before
      const isTooMuch = this.#kept.size > kept.entries || this.#characters > kept.characters
      if (!isOld && !isTooMuch) return
      this.#kept.delete(published)
      this.#characters -= published.text.length
    }
  }
}
