import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { UserLimits } from '../src/auth/user-limits.js'

declare module 'fastify' {
  interface FastifyInstance {
    userLimits: UserLimits
    /** A hook, after `authenticate`, that counts a user's requests. @throws AppError RATE_LIMITED. */
    limitRequests(request: FastifyRequest, reply: FastifyReply): Promise<void>
    /**
     * A hook, after `authenticate`, that counts an answer of server-sent events until it is closed.
     * @throws AppError RATE_LIMITED.
     */
    limitStreams(request: FastifyRequest, reply: FastifyReply): Promise<void>
  }
}

/** Limits what one user may ask for: requests, streams, sockets. */
export default fp(
  async (fastify) => {
    const { cache, config, openCounts } = fastify
    const limits = new UserLimits(cache, openCounts, {
      requestsPerMinute: config.RATE_LIMIT_USER_REQUESTS_PER_MINUTE,
      streams: config.RATE_LIMIT_USER_STREAMS,
      sockets: config.RATE_LIMIT_USER_SOCKETS,
    })
    fastify.decorate('userLimits', limits)

    fastify.decorate('limitRequests', async ({ session }: FastifyRequest, reply: FastifyReply) => {
      const left = limits.countRequest(session.userId)
      if (left) reply.tellLimit(left)
    })

    fastify.decorate('limitStreams', async (request: FastifyRequest, reply: FastifyReply) => {
      // A sent message is answered by events only where the client asks for them.
      if (request.method === 'POST' && !request.wantsEvents()) return
      let close: (() => void) | undefined
      let isGone = false
      reply.raw.once('close', () => {
        isGone = true
        close?.()
      })
      close = await limits.openStream(request.session.userId)
      // The client may have gone while Redis was asked.
      if (isGone) close()
    })
  },
  { name: 'limits', dependencies: ['redis', 'security'] },
)
