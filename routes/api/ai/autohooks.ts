import type { FastifyInstance } from 'fastify'

/** Everything in this folder wants an access token, and counts towards its user's requests. */
export default async function hooks(fastify: FastifyInstance) {
  fastify.addHook('onRequest', fastify.authenticate)
  fastify.addHook('onRequest', fastify.limitRequests)
}
