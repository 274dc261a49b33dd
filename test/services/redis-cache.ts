import Fastify from 'fastify'
import observability from '../../plugins/observability.js'
import redis from '../../plugins/redis.js'
import { parseConfig } from '../../src/config.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** The cache of one server at a Redis, or a cluster of them; closed with the test. */
export async function openRedisCache(t: Teardown, url: string) {
  const app = Fastify()
  app.decorate('config', parseConfig({ REDIS_URL: url, START_TIMEOUT_MS: '5000' }))
  app.register(observability)
  app.register(redis)
  t.teardown(() => app.close())
  await app.ready()
  return app.cache
}
