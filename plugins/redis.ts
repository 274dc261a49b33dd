import fastifyRedis from '@fastify/redis'
import fp from 'fastify-plugin'
import { Counter } from 'prom-client'
import { type Cache, countedCache, type ReadCounts } from '../src/cache/cache.js'
import { createMemoryCache } from '../src/cache/memory.js'
import { OpenCounts } from '../src/cache/open-counts.js'
import { createRedisCache } from '../src/cache/redis.js'
import { connectRedis, openSubscriber, refuseOldRedis } from '../src/cache/redis-connection.js'
import { createSlots, type Slots } from '../src/cache/slots.js'
import { createStreamLog, type StreamLog } from '../src/cache/stream-log.js'
import { redisUrls } from '../src/config.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Redis, or this process's memory. `fastify.redis` is there only with REDIS_URL. */
    cache: Cache
    /** Text of running replies and slots at Ollama, which servers share through Redis. */
    shared: { streamLog: StreamLog; slots: Slots } | undefined
    /** How much users have open at all servers. */
    openCounts: OpenCounts
  }
}

const refusalLogMs = 60_000

/** The cache: Redis or a cluster when REDIS_URL is set, else this process's memory. */
export default fp(
  async (fastify) => {
    const { config, log } = fastify
    const redis = config.REDIS_URL ? await openRedis(redisUrls(config.REDIS_URL)) : undefined
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

    async function openRedis(urls: readonly string[]) {
      const address = urls.map(withoutCredentials).join(',')
      const onError = (error: unknown) =>
        log.debug({ reason: reasonOf(error) }, 'a connection to Redis failed')
      try {
        // The package itself knows no cluster, and closes by QUIT alone, which hangs without Redis.
        const timeoutMs = config.START_TIMEOUT_MS * 0.8
        const { client, close } = await connectRedis(urls, { timeoutMs, onError })
        fastify.addHook('onClose', close)
        await fastify.register(fastifyRedis, { client })
        await refuseOldRedis(fastify.redis)
      } catch (error) {
        throw new Error(
          `REDIS_URL: Redis at ${address} cannot be used: ${reasonOf(error)}. ` +
            'Start it or correct REDIS_URL; unset it to use the process’s own memory.',
        )
      }
      log.info(`cache: Redis at ${address}; unset REDIS_URL to use this process’s memory`)
      const client = fastify.redis
      const cache = createRedisCache(client, {
        openSubscriber: () => openSubscriber(client, onError),
        onChange: (state, cause) => {
          if (state === 'back') return log.info('Redis is back')
          log.warn({ reason: reasonOf(cause) }, 'Redis is away: going on without it')
        },
        onRefused: atMostEvery(refusalLogMs, (cause) => {
          log.warn({ reason: reasonOf(cause) }, 'Redis refused a command')
        }),
        onUnreadable: atMostEvery(refusalLogMs, (cause) => {
          log.warn(
            { reason: reasonOf(cause) },
            'a message on a channel in Redis cannot be read: another program, or another version ' +
              'of this one, uses the same database; give each a database of its own',
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
  },
  { name: 'redis', dependencies: ['observability'] },
)

function withoutCredentials(url: string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
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
