import type { FastifyInstance } from 'fastify'

/** Everything in this folder wants an access token. */
export default async function hooks(fastify: FastifyInstance) {
  fastify.addHook('onRequest', fastify.authenticate)
}
