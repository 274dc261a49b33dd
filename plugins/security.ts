import type { IncomingMessage } from 'node:http'
import cors from '@fastify/cors'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import helmet from 'helmet'
import { clientNetworks, createTrust } from '../src/auth/client-network.js'
import { createOrigins } from '../src/auth/origins.js'
import type { RequestsLeft } from '../src/auth/user-limits.js'
import { limitKey } from '../src/cache/keys.js'
import { AppError } from '../src/errors.js'
import { headersOf } from '../src/http/headers-of.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The configured origins, whose pages may read responses. */
    knownOrigins: readonly string[]
    /** Whether a request comes from an allowed origin. */
    originAllowed(request: IncomingMessage): boolean
    /** A hook that limits attempts with credentials by network. @throws AppError RATE_LIMITED. */
    limitCredentials(request: FastifyRequest, reply: FastifyReply): Promise<void>
  }
  interface FastifyReply {
    /** Tells the client how far a limit is used, in the headers `RateLimit-…`. */
    tellLimit(left: RequestsLeft): void
  }
  interface FastifyRequest {
    /** The client's IPv4 address or IPv6 /64, for limits by network. */
    readonly network: string
  }
}

const minuteMs = 60_000

/** How long browsers cache a preflight, in seconds. */
const preflightMaxAge = 600

/** Checks origins, sets protective headers, and limits attempts with credentials. */
export default fp(
  async (fastify) => {
    const { config, cache } = fastify
    const known = [...config.FRONTEND_URL, ...(config.PUBLIC_URL ? [config.PUBLIC_URL] : [])]
    const origins = createOrigins({
      known,
      allowLoopbackNames: config.NODE_ENV !== 'production',
      trust: createTrust(config.TRUST_PROXY),
    })
    fastify.decorate('knownOrigins', known)
    fastify.decorate('originAllowed', origins.isAllowed)

    // Made once: @fastify/helmet makes them for each request, which is a fifth of what a cached list costs.
    const protectiveHeaders = headersOf(
      helmet({
        // The page and the documentation load from this server alone, and nobody frames them.
        contentSecurityPolicy: {
          useDefaults: false,
          directives: {
            'default-src': ["'self'"],
            'connect-src': ["'self'"],
            'img-src': ["'self'", 'data:'],
            'style-src': ["'self'", "'unsafe-inline'"],
            'object-src': ["'none'"],
            'base-uri': ["'none'"],
            'form-action': ["'self'"],
            'frame-ancestors': ["'none'"],
          },
        },
        frameguard: { action: 'deny' },
        // Elsewhere it would bind a developer's localhost to HTTPS.
        hsts: config.NODE_ENV === 'production',
      }),
    )
    fastify.addHook('onRequest', (request, reply, done) => {
      // Only the documentation's files may be cached; they set this header themselves.
      reply.headers(protectiveHeaders)
      reply.header('X-Request-Id', request.id).header('Cache-Control', 'no-store')
      done()
    })

    await fastify.register(cors, {
      origin: (origin, decide) => decide(null, origin !== undefined && origins.isKnown(origin)),
      // The API uses no cookies, but many clients set `withCredentials`.
      credentials: true,
      methods: ['GET', 'POST', 'PATCH', 'DELETE'],
      allowedHeaders: [
        'Authorization',
        'Content-Type',
        'Idempotency-Key',
        'Last-Event-ID',
        'Prefer',
        'Traceparent',
        'Tracestate',
      ],
      exposedHeaders: [
        'Location',
        'Preference-Applied',
        'RateLimit-Limit',
        'RateLimit-Remaining',
        'RateLimit-Reset',
        'Retry-After',
        'X-Request-Id',
      ],
      maxAge: preflightMaxAge,
    })

    fastify.addHook('onRequest', (request, _reply, done) => {
      const reads = request.method === 'GET' || request.method === 'HEAD'
      const allowed = reads || origins.isAllowed(request.raw)
      done(allowed ? undefined : new AppError('ORIGIN_REFUSED'))
    })

    fastify.decorateRequest('network', {
      getter() {
        return networksOf(this)[0]?.network ?? 'unknown'
      },
    })
    fastify.decorateReply('tellLimit', function tellLimit({ limit, remaining, resetMs }) {
      this.header('RateLimit-Limit', limit)
      this.header('RateLimit-Remaining', remaining)
      this.header('RateLimit-Reset', Math.ceil(resetMs / 1000))
    })
    fastify.decorate('limitCredentials', async (request: FastifyRequest, reply: FastifyReply) => {
      const perMinute = config.RATE_LIMIT_CREDENTIALS_PER_MINUTE
      if (!Number.isFinite(perMinute)) return
      let scarcest: RequestsLeft | undefined
      for (const { network, factor } of networksOf(request)) {
        const { count, resetMs } = await cache.hit(limitKey('credentials', network), minuteMs)
        const limit = perMinute * factor
        const left = { limit, remaining: Math.max(0, limit - count), resetMs }
        if (!scarcest || left.remaining < scarcest.remaining) scarcest = left
        reply.tellLimit(scarcest)
        if (count <= limit) continue
        throw new AppError('RATE_LIMITED', { retryAfter: Math.max(1, Math.ceil(resetMs / 1000)) })
      }
    })
  },
  { name: 'security', dependencies: ['redis'] },
)

/** The networks that a client counts in; the connection's own when a proxy names no address. */
function networksOf({ ip, socket }: FastifyRequest) {
  const networks = clientNetworks(ip)
  return networks.length > 0 ? networks : clientNetworks(socket.remoteAddress ?? '')
}
