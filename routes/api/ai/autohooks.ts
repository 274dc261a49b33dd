import type { FastifyInstance } from 'fastify'
import { AppError } from '../../../src/errors.js'

/** Every route in this folder requires an access token and counts towards its user's requests. */
export default async function hooks(fastify: FastifyInstance) {
  fastify.addHook('onRequest', fastify.authenticate)
  fastify.addHook('onRequest', fastify.limitRequests)
  // The session may end while the body arrives.
  fastify.addHook('preHandler', (request, _reply, done) => {
    const code = fastify.sessions.endOf(request.session.sessionId)
    done(code && new AppError(code))
  })
}
