import type { Redis } from 'ioredis'
import { inTime } from '../within.js'
import { Breaker } from './breaker.js'
import type { Cache } from './cache.js'
import { lostDeletionsChannel, missedNewsChannel } from './keys.js'
import { createMemoryCache } from './memory.js'
import { oneNode, type RedisClient } from './redis-connection.js'
import { ReliablePubSub } from './reliable-pub-sub.js'
import { Subscriptions } from './subscriptions.js'

export interface RedisCache extends Cache {
  /** Runs a command of another kind; resolves with undefined when Redis is away or refuses it. */
  run<T>(operation: () => Promise<T>): Promise<T | undefined>
}

interface RedisCacheOptions {
  /** Opens a connection for subscriptions that does not connect again by itself; may throw. */
  openSubscriber: () => Redis
  /** Hears once of each change: whether Redis answers. */
  onChange: (state: 'away' | 'back', cause?: unknown) => void
  /** Hears of a command that Redis refused, out of memory, say. */
  onRefused: (cause: unknown) => void
  /** Hears of a message that a listener could not take. */
  onUnreadable: (cause: unknown) => void
}

/** No fault of Redis may cost a request more. */
const operationTimeoutMs = 200
const retryMs = 500
const maxLostDeletions = 10_000

/** Counts atomically and starts the window with its first event. */
async function countInRedis(client: RedisClient, key: string, windowMs: number, events: number) {
  if (events === 0) {
    const [count, ttl] = await Promise.all([client.get(key), client.pttl(key)])
    return { count: Number(count), resetMs: ttl > 0 ? ttl : windowMs }
  }
  const replies = await client
    .multi()
    .set(key, 0, 'PX', windowMs, 'NX')
    .incrby(key, events)
    .pttl(key)
    .exec()
  const [, count, ttl] = replies ?? []
  const failure = count?.[0] ?? ttl?.[0]
  if (failure) throw failure
  return { count: Number(count?.[1]), resetMs: Math.max(0, Number(ttl?.[1])) }
}

/**
 * The cache that servers share. While Redis is away reads find nothing, writes are dropped, counters
 * are this process's own, and messages come late.
 * @param client connected, without an offline queue; its opener closes it after the cache.
 */
export function createRedisCache(client: RedisClient, options: RedisCacheOptions): RedisCache {
  const local = createMemoryCache()
  // Keys that could not be deleted: they read as absent until they are.
  const lostDeletions = new Set<string>()
  let retry: NodeJS.Timeout | undefined
  let isClosed = false

  /** Deletes them one by one: in a cluster the keys of one command must lie on one node. */
  async function deleteLost(): Promise<void> {
    const unlink = async (key: string) => {
      await client.unlink(key)
      lostDeletions.delete(key)
    }
    const [first, ...others] = lostDeletions
    // The first shows whether Redis writes.
    if (first !== undefined) await unlink(first)
    await Promise.all(others.map(unlink))
  }

  /** Asks a Redis that answers but does not write again; the breaker's probe asks one that is away. */
  function deleteLostLater(): void {
    if (isClosed || lostDeletions.size === 0) return
    retry ??= setTimeout(async () => {
      await breaker.run(deleteLost)
      retry = undefined
      deleteLostLater()
    }, retryMs).unref()
  }

  function loseDeletion(key: string): void {
    if (lostDeletions.size < maxLostDeletions) lostDeletions.add(key)
    deleteLostLater()
  }

  const breaker = new Breaker({
    timeoutMs: operationTimeoutMs,
    retryMs,
    probe: async () => {
      await client.ping()
      await deleteLost()
    },
    isAnswer: (error) => error instanceof Error && error.name === 'ReplyError',
    onChange: (state, cause) => {
      options.onChange(state, cause)
      if (state === 'away') news.wait()
      else void news.catchUp()
    },
    onRefused: options.onRefused,
  })
  const publisher = oneNode(client)
  const news = new ReliablePubSub(async (channel, text) => {
    const told = await breaker.run(async () => publisher().publish(channel, text))
    // Redis would refuse it again.
    return told !== undefined || !breaker.isAway
  })
  const gapListeners = new Set<() => void>()
  const tellGap = () => {
    for (const listener of gapListeners) listener()
  }
  const subscriptions = new Subscriptions({
    connect: options.openSubscriber,
    onMessage: (channel, text) => {
      const message = news.hear(text)
      if (message === undefined) return
      if (channel === missedNewsChannel) news.repeat(Number(message))
      else if (channel === lostDeletionsChannel) loseDeletion(message)
      else void local.publish(channel, message).catch(options.onUnreadable)
    },
    onGap: (ms) => {
      tellGap()
      // This server may have missed messages of others, and others that subscribed late its own.
      news.repeat(ms)
      void news.tell(missedNewsChannel, `${Math.ceil(ms)}`)
    },
    onDeaf: tellGap,
  })

  return {
    run: (operation) => breaker.run(operation),

    async ping() {
      await inTime(client.ping(), operationTimeoutMs)
    },

    async close() {
      isClosed = true
      clearTimeout(retry)
      breaker.close()
      subscriptions.close()
      news.close()
      await local.close()
    },

    // GETEX, since a Redis that does not write refuses it: its values would never be invalidated.
    async get(key) {
      const value = await breaker.run(() => client.getex(key))
      return lostDeletions.has(key) ? undefined : (value ?? undefined)
    },

    async getBytes(key) {
      const value = await breaker.run(() => client.getexBuffer(key))
      return lostDeletions.has(key) ? undefined : (value ?? undefined)
    },

    async set(key, value, ttlMs) {
      const life = Math.max(1, Math.round(ttlMs))
      return (await breaker.run(() => client.set(key, value, 'PX', life))) !== undefined
    },

    async setIfAbsent(key, value, ttlMs) {
      const life = Math.max(1, Math.round(ttlMs))
      return (await breaker.run(() => client.set(key, value, 'PX', life, 'NX'))) !== null
    },

    async delete(key) {
      await local.delete(key)
      const deleted = await breaker.run(() => client.unlink(key))
      if (deleted !== undefined) return
      loseDeletion(key)
      if (!breaker.isAway) await news.tellLive(lostDeletionsChannel, key)
    },

    async hit(key, windowMs, events = 1) {
      const counted = await breaker.run(() => countInRedis(client, key, windowMs, events))
      return counted ?? local.hit(key, windowMs, events)
    },

    async publish(channel, message) {
      await local.publish(channel, message)
      await news.tell(channel, message)
    },

    async publishLive(channel, message) {
      await local.publish(channel, message)
      await news.tellLive(channel, message)
    },

    onGap(listener) {
      gapListeners.add(listener)
      return () => gapListeners.delete(listener)
    },

    async subscribe(channel, listener) {
      const unsubscribe = await local.subscribe(channel, listener)
      const channels = [missedNewsChannel, lostDeletionsChannel, channel]
      await Promise.all(channels.map((one) => subscriptions.add(one)))
      return async () => {
        await unsubscribe()
        await Promise.all(channels.map((one) => subscriptions.remove(one)))
      }
    },
  }
}
