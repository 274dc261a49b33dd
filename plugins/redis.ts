import { setTimeout as delay } from 'node:timers/promises'
import fastifyRedis from '@fastify/redis'
import type { FastifyBaseLogger } from 'fastify'
import fp from 'fastify-plugin'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { Counter } from 'prom-client'
import { within } from '../src/cache/breaker.js'
import { type Cache, countedCache, type ReadCounts } from '../src/cache/cache.js'
import { createMemoryCache } from '../src/cache/memory.js'
import { oneNode } from '../src/cache/one-node.js'
import { OpenCounts } from '../src/cache/open-counts.js'
import { createRedisCache, type RedisClient } from '../src/cache/redis.js'
import { refuseOldRedis } from '../src/cache/redis-version.js'
import { createSlots, type Slots } from '../src/cache/slots.js'
import { createStreamLog, type StreamLog } from '../src/cache/stream-log.js'
import { redisUrls } from '../src/config.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Redis, or this process's memory. `fastify.redis` is there only with REDIS_URL. */
    cache: Cache
    /** Servers share this through Redis: the text of running replies, and the places at Ollama. */
    shared: { streamLog: StreamLog; slots: Slots } | undefined
    /** How much users have open at all servers. */
    openCounts: OpenCounts
  }
}

const refusalLogMs = 60_000
const pingTimeoutMs = 250

const retryStrategy = (attempt: number) => Math.min(attempt * 100, 1000)

/** For each connection. */
const nodeOptions: RedisOptions = {
  connectTimeout: 2000,
  // The last resort: what waits for a command has a shorter limit of its own.
  commandTimeout: 2000,
  // A connection on which nothing comes back is given up, and made anew.
  socketTimeout: 3000,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
}

/** A connection for subscriptions: nobody waits for it, and what is lost is opened anew. */
const subscriberOptions: RedisOptions = {
  ...nodeOptions,
  lazyConnect: false,
  autoResubscribe: false,
  retryStrategy: () => null,
}

/** The cache: Redis, or a cluster of them, when REDIS_URL is set, else the process's own memory. */
export default fp(
  async (fastify) => {
    const { config, log } = fastify
    const redis = config.REDIS_URL ? await connectRedis(config.REDIS_URL) : undefined
    const counts: ReadCounts = new Map()
    const reads: Counter = new Counter({
      name: 'cache_reads_total',
      help: 'Reads of the cache, by what they are for.',
      labelNames: ['kind', 'result'] as const,
      registers: [fastify.metrics],
      collect() {
        reads.reset()
        for (const [kind, { hit, miss }] of counts) {
          reads.inc({ kind, result: 'hit' }, hit)
          reads.inc({ kind, result: 'miss' }, miss)
        }
      },
    })
    const cache = countedCache(redis?.cache ?? createMemoryCache(), counts)
    fastify.decorate('cache', cache)
    fastify.decorate('shared', redis?.shared)
    const openCounts = redis?.openCounts ?? new OpenCounts()
    fastify.decorate('openCounts', openCounts)
    fastify.addHook('onClose', async () => openCounts.stop())
    fastify.addHook('onClose', () => cache.close())
    if (!redis) {
      log.info('cache: this process’s memory; set REDIS_URL to share it between servers by Redis')
    }

    async function connectRedis(url: string) {
      const address = describe(url)
      const client = connect(url)
      try {
        await answering(client, config.START_TIMEOUT_MS * 0.8)
        await refuseOldRedis(client)
      } catch (error) {
        client.disconnect()
        throw new Error(
          `REDIS_URL: Redis at ${address} cannot be used: ${reasonOf(error)}. ` +
            'Start it or correct REDIS_URL; unset it to use the process’s own memory.',
        )
      }
      await fastify.register(fastifyRedis, { client })
      log.info(`cache: Redis at ${address}; unset REDIS_URL to use this process’s memory`)
      const cache = createRedisCache(client, {
        connectSubscriber: () => {
          const subscriber = oneNode(client)().duplicate(subscriberOptions)
          ignoreErrors(subscriber, log)
          return subscriber
        },
        onChange: (state, cause) => {
          if (state === 'away')
            log.warn({ reason: reasonOf(cause) }, 'Redis is away: going on without')
          else log.info('Redis is back')
        },
        onRefused: atMostEvery(refusalLogMs, (cause) => {
          log.warn({ reason: reasonOf(cause) }, 'Redis refused a command')
        }),
        onUnreadable: atMostEvery(refusalLogMs, (cause) => {
          log.warn(
            { reason: reasonOf(cause) },
            'a message on a channel of this system’s in Redis cannot be read: another program, or ' +
              'another version of this one, uses the same database',
          )
        }),
      })
      const slots = createSlots(client, cache.run, {
        maxConcurrent: config.OLLAMA_MAX_CONCURRENT,
        userMaxConcurrent: config.USER_MAX_CONCURRENT,
        leaseMs: config.LEASE_MS,
      })
      const shared = { streamLog: createStreamLog(client, cache.run), slots }
      return { cache, shared, openCounts: new OpenCounts({ client, run: cache.run }) }
    }

    function connect(text: string): RedisClient {
      const urls = redisUrls(text)
      const client =
        urls.length > 1
          ? new Cluster(urls, {
              enableOfflineQueue: false,
              clusterRetryStrategy: retryStrategy,
              // The nodes that it tells of are reached as the first that is named here.
              redisOptions: { ...nodeOptions, ...credentialsOf(urls[0]) },
            })
          : new Redis(text, { ...nodeOptions, enableOfflineQueue: false, retryStrategy })
      ignoreErrors(client, log)
      return client
    }
  },
  { name: 'redis', dependencies: ['observability'] },
)

/** ioredis prints errors that nobody hears; what matters of them is told by the breaker. */
function ignoreErrors(client: RedisClient, log: FastifyBaseLogger): void {
  client.on('error', (error) =>
    log.debug({ reason: reasonOf(error) }, 'a connection to Redis failed'),
  )
}

/** Resolves when Redis answers; a refusal (a wrong password, say) is final, absence is waited out. */
async function answering(client: RedisClient, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs
  let last: unknown
  client.on('error', remember)
  try {
    while (true) {
      try {
        await ping(client)
        // No request is to wait until one of a cluster's nodes is connected.
        if (client instanceof Cluster) await Promise.all(client.nodes('master').map(ping))
        return
      } catch (error) {
        const cause = last ?? error
        if (isRefusal(cause) || isRefusal(error) || Date.now() >= deadline) throw cause
      }
      await delay(50)
    }
  } finally {
    client.off('error', remember)
  }

  function remember(error: unknown): void {
    // A cluster's own error says only that no node would do.
    last = (error instanceof Error && 'lastNodeError' in error && error.lastNodeError) || error
  }
}

const ping = (node: RedisClient) => within(pingTimeoutMs, node.ping())

const isRefusal = (error: unknown) =>
  error instanceof Error &&
  error.name === 'ReplyError' &&
  !/^(LOADING|MASTERDOWN)/.test(error.message)

function credentialsOf(text: string | undefined): RedisOptions {
  const { protocol, username, password } = new URL(text ?? '')
  return {
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' && { tls: {} }),
  }
}

/** The URLs without their credentials. */
function describe(text: string): string {
  return redisUrls(text)
    .map((url) => {
      const { protocol, host, pathname } = new URL(url)
      return `${protocol}//${host}${pathname}`
    })
    .join(',')
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.message || ('code' in error ? String(error.code) : error.name)
}

function atMostEvery<T>(ms: number, action: (value: T) => void): (value: T) => void {
  let last = Number.NEGATIVE_INFINITY
  return (value) => {
    if (performance.now() - last < ms) return
    last = performance.now()
    action(value)
  }
}
