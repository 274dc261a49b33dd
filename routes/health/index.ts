import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Health, type HealthStatus, Liveness, type ServiceStatus } from '../../schemas/health.js'

const pingMs = 1000

/** Whether a service answers within a second. */
async function statusOf(ping: () => Promise<unknown>): Promise<ServiceStatus> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<ServiceStatus>((resolve) => {
    timer = setTimeout(resolve, pingMs, 'down')
  })
  try {
    return await Promise.race([ping().then((): ServiceStatus => 'ok'), late])
  } catch {
    // Why it is down is logged by whoever needed it; a probe only tells that it is.
    return 'down'
  } finally {
    clearTimeout(timer)
  }
}

const health: FastifyPluginAsyncTypebox = async (fastify) => {
  async function check(): Promise<Health> {
    const [db, redis, ollama] = await Promise.all([
      statusOf(() => fastify.store.ping()),
      statusOf(() => fastify.cache.ping()),
      statusOf(() => fastify.ollama.client.version()),
    ])
    const status = ((): HealthStatus => {
      if (fastify.lifecycle.closing) return 'shutting-down'
      if (db === 'down') return 'down'
      return redis === 'down' || ollama === 'down' ? 'degraded' : 'ok'
    })()
    return {
      status,
      services: { db: { status: db }, redis: { status: redis }, ollama: { status: ollama } },
    }
  }

  // However many probes ask at once, each service is asked once.
  let checking: Promise<Health> | undefined

  fastify.get(
    '/live',
    {
      config: { quiet: true },
      schema: {
        operationId: 'getLiveness',
        summary: 'Whether the process runs',
        description: 'Answers as long as the process can answer at all.',
        tags: ['health'],
        security: [],
        response: { 200: Liveness },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  fastify.get(
    '/ready',
    {
      config: { quiet: true },
      schema: {
        operationId: 'getReadiness',
        summary: 'Whether requests can be served, and each service by name',
        description:
          'Without its database, and while it goes down, the server is not ready. Without Redis or Ollama it is `degraded`, and serves what needs neither.',
        tags: ['health'],
        security: [],
        response: { 200: Health, 503: Health },
      },
    },
    async (_request, reply) => {
      checking ??= check().finally(() => {
        checking = undefined
      })
      const result = await checking
      const ready = result.status === 'ok' || result.status === 'degraded'
      return reply.code(ready ? 200 : 503).send(result)
    },
  )
}

export default health
