import type { Redis } from 'ioredis'
import { within } from '../within.js'

interface SubscriptionsOptions {
  /** Opens a connection that does not connect again by itself; throws when it knows no Redis. */
  connect: () => Redis
  onMessage: (channel: string, message: string) => void
  /** Called when messages of the last `ms` milliseconds may have been missed. */
  onGap: (ms: number) => void
  /** Called about once a second while no connection hears messages. */
  onDeaf: () => void
}

/** The longest that a request waits for a subscription, in milliseconds. */
const patienceMs = 200
const heartbeatMs = 5000
const retryMs = { step: 100, max: 1000 }

/** Subscriptions over a connection of their own. A lost connection is replaced by a new one. */
export class Subscriptions {
  /** The number of listeners by channel. */
  readonly #listeners = new Map<string, number>()
  #connection: Redis | undefined
  /** Resolves when the connection has subscribed to every channel known when it was ready. */
  #ready: Promise<void> | undefined
  /** When all channels were last known to be heard, by `performance.now()`. */
  #heardAt = 0
  #attempt = 0
  #retry: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #closed = false

  constructor(private readonly options: SubscriptionsOptions) {}

  /** Waits a moment for the channel's subscription; if it comes later, `onGap` is called then. */
  async add(channel: string): Promise<void> {
    const listeners = this.#listeners.get(channel) ?? 0
    this.#listeners.set(channel, listeners + 1)
    if (listeners > 0 || this.#closed) return
    if (this.#heartbeat === undefined) this.#begin()
    const heard =
      this.#connection?.status === 'ready'
        ? this.#subscribeLate(this.#connection, channel)
        : this.#ready
    if (heard) await within(heard, patienceMs)
  }

  async remove(channel: string): Promise<void> {
    const listeners = (this.#listeners.get(channel) ?? 0) - 1
    if (listeners > 0) {
      this.#listeners.set(channel, listeners)
      return
    }
    this.#listeners.delete(channel)
    const connection = this.#connection
    if (connection?.status !== 'ready') return
    await within(connection.unsubscribe(channel).catch(abandon(connection)), patienceMs)
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#heartbeat)
    clearTimeout(this.#retry)
    this.#connection?.disconnect()
  }

  #begin(): void {
    this.#heardAt = performance.now()
    // Only a ping notices a connection that died without a word.
    this.#heartbeat = setInterval(() => void this.#beat(), heartbeatMs).unref()
    this.#open()
  }

  async #beat(): Promise<void> {
    const connection = this.#connection
    if (connection?.status !== 'ready') return
    const askedAt = performance.now()
    const answered = await connection.ping().then(() => true, abandon(connection))
    if (answered && connection === this.#connection) this.#heardAt = askedAt
  }

  #open(): void {
    let connection: Redis
    try {
      connection = this.options.connect()
    } catch {
      this.#openLater()
      return
    }
    this.#connection = connection
    connection.on('message', this.options.onMessage)
    connection.once('end', () => this.#openLater())
    this.#ready = new Promise((resolve) => {
      connection.once('ready', () => void this.#subscribeAll(connection).then(resolve))
    })
  }

  #openLater(): void {
    if (this.#closed) return
    this.options.onDeaf()
    this.#attempt += 1
    const ms = Math.min(this.#attempt * retryMs.step, retryMs.max)
    this.#retry = setTimeout(() => this.#open(), ms).unref()
  }

  async #subscribeAll(connection: Redis): Promise<void> {
    const channels = [...this.#listeners.keys()]
    if (channels.length > 0) {
      const heard = await connection.subscribe(...channels).then(() => true, abandon(connection))
      if (!heard) return
    }
    const now = performance.now()
    this.options.onGap(now - this.#heardAt)
    this.#heardAt = now
    this.#attempt = 0
  }

  /** Reports a gap when the channel's subscription came after its caller had gone on. */
  async #subscribeLate(connection: Redis, channel: string): Promise<void> {
    const since = performance.now()
    const heard = await connection.subscribe(channel).then(() => true, abandon(connection))
    const ms = performance.now() - since
    if (heard && ms > patienceMs) this.options.onGap(ms)
  }
}

/** Closes a connection whose command failed; the next one subscribes to all channels. */
function abandon(connection: Redis) {
  return () => {
    connection.disconnect()
    return false
  }
}
