import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Health, Liveness } from '../../schemas/health.js'

const routes: FastifyPluginAsyncTypebox = async (fastify) => {
  fastify.get(
    '/live',
    {
      config: { quiet: true },
      schema: {
        operationId: 'getLiveness',
        summary: 'Tell whether the process runs',
        description: 'Answers 200 as long as the process runs.',
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
        summary: 'Tell whether the server is ready, and each service by name',
        description:
          'Without its database, and while it shuts down, the server is not ready. Without Redis or Ollama it is `degraded`.',
        tags: ['health'],
        security: [],
        response: { 200: Health, 503: Health },
      },
    },
    async (_request, reply) => {
      const health = await fastify.checkHealth()
      const isReady = health.status === 'ok' || health.status === 'degraded'
      return reply.code(isReady ? 200 : 503).send(health)
    },
  )
}

export default routes
