import type { FastifyPluginAsync } from 'fastify'

const metrics: FastifyPluginAsync = async (fastify) => {
  fastify.get(
    '/',
    { onRequest: fastify.guardMetrics, config: { quiet: true }, schema: { hide: true } },
    async (_request, reply) =>
      reply.type(fastify.metrics.contentType).send(await fastify.metrics.metrics()),
  )
}

export default metrics
