import { randomUUID } from 'node:crypto'
import type { Cluster, Redis } from 'ioredis'
import { Breaker, within } from './breaker.js'
import type { Cache } from './cache.js'
import { createMemoryCache } from './memory.js'

export type RedisClient = Redis | Cluster

export interface RedisCache extends Cache {
  /** Runs a command of another kind; resolves with undefined when Redis is away or refuses it. */
  run<T>(operation: () => Promise<T>): Promise<T | undefined>
}

interface RedisCacheOptions {
  /** Opens a connection for subscriptions alone; called once, at the first. */
  connectSubscriber: () => RedisClient
  /** Hears once of each change: whether Redis answers. */
  onChange: (state: 'away' | 'back', cause?: unknown) => void
  /** Hears of a command that Redis refused, out of memory, say. */
  onRefused: (cause: unknown) => void
}

/** No fault of Redis may cost a request more. */
const operationTimeoutMs = 200
const retryMs = 500
const heartbeatMs = 5000
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
 * The cache that servers share. Its faults are invisible: what is read is not there, what is
 * written is forgotten, counters and news fall back to this process.
 * @param client connected, without an offline queue.
 */
export function createRedisCache(client: RedisClient, options: RedisCacheOptions): RedisCache {
  const local = createMemoryCache()
  const origin = randomUUID()
  // What could not be deleted would come back with Redis, out of date.
  const lostDeletions = new Set<string>()
  const breaker = new Breaker({
    timeoutMs: operationTimeoutMs,
    retryMs,
    probe: async () => {
      await client.ping()
      // One by one: the keys of one command must not lie on several of a cluster's nodes.
      const unlinks = Array.from(lostDeletions, async (key) => {
        await client.unlink(key)
        lostDeletions.delete(key)
      })
      await Promise.all(unlinks)
    },
    isAnswer: (error) => error instanceof Error && error.name === 'ReplyError',
    onChange: options.onChange,
    onRefused: options.onRefused,
  })
  const subscriptions = createSubscriptions(options.connectSubscriber, (channel, text) => {
    // What this process published was delivered when it did.
    if (!text.startsWith(origin)) void local.publish(channel, text.slice(origin.length))
  })

  return {
    run: (operation) => breaker.run(operation),

    async ping() {
      await within(operationTimeoutMs, client.ping())
    },

    async close() {
      breaker.close()
      subscriptions.close()
      try {
        // Lets what was just written leave; a Redis that is away gets no goodbye.
        await within(operationTimeoutMs, client.quit())
      } catch {
        client.disconnect()
      }
      await local.close()
    },

    async get(key) {
      return (await breaker.run(() => client.get(key))) ?? undefined
    },

    async getBytes(key) {
      return (await breaker.run(() => client.getBuffer(key))) ?? undefined
    },

    async set(key, value, ttlMs) {
      await breaker.run(() => client.set(key, value, 'PX', Math.max(1, Math.round(ttlMs))))
    },

    async delete(key) {
      await local.delete(key)
      const deleted = await breaker.run(() => client.unlink(key))
      if (deleted === undefined && lostDeletions.size < maxLostDeletions) lostDeletions.add(key)
    },

    async hit(key, windowMs, events = 1) {
      const counted = await breaker.run(() => countInRedis(client, key, windowMs, events))
      return counted ?? local.hit(key, windowMs, events)
    },

    async publish(channel, message) {
      await local.publish(channel, message)
      await breaker.run(() => client.publish(channel, origin + message))
    },

    async subscribe(channel, listener) {
      const unsubscribe = await local.subscribe(channel, listener)
      await subscriptions.add(channel)
      return async () => {
        await unsubscribe()
        await subscriptions.remove(channel)
      }
    },
  }
}

/** The channels heard over a connection of their own, again after each time it was lost. */
function createSubscriptions(
  connect: () => RedisClient,
  onMessage: (channel: string, message: string) => void,
) {
  const listenersOf = new Map<string, number>()
  let heartbeat: NodeJS.Timeout | undefined
  let opened: { connection: RedisClient; firstReady: Promise<void> } | undefined

  function open() {
    const connection = connect()
    connection.on('message', onMessage)
    const firstReady = new Promise<void>((resolve) => {
      connection.on('ready', () => {
        if (listenersOf.size > 0) void quietly(connection.subscribe(...listenersOf.keys()))
        resolve()
      })
    })
    // Nothing else would notice a connection that died in silence.
    heartbeat = setInterval(() => void quietly(connection.ping()), heartbeatMs).unref()
    return { connection, firstReady }
  }

  return {
    async add(channel: string): Promise<void> {
      const listeners = listenersOf.get(channel) ?? 0
      listenersOf.set(channel, listeners + 1)
      opened ??= open()
      const { connection, firstReady } = opened
      if (listeners === 0) await quietly(firstReady.then(() => connection.subscribe(channel)))
    },

    async remove(channel: string): Promise<void> {
      const listeners = (listenersOf.get(channel) ?? 0) - 1
      if (listeners > 0) {
        listenersOf.set(channel, listeners)
        return
      }
      listenersOf.delete(channel)
      if (opened) await quietly(opened.connection.unsubscribe(channel))
    },

    close(): void {
      clearInterval(heartbeat)
      opened?.connection.disconnect()
    },
  }
}

/** For the subscriber's commands: each new connection subscribes again, so no failure matters. */
async function quietly(operation: Promise<unknown>): Promise<void> {
  await within(operationTimeoutMs, operation).catch(() => undefined)
}
