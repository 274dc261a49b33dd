import type { IncomingMessage } from 'node:http'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { clientNetworks, createTrust } from '../src/auth/client-network.js'
import { createOrigins } from '../src/auth/origins.js'
import { limitKey } from '../src/cache/keys.js'
import { AppError } from '../src/errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The origins of the settings, whose pages may read answers. */
    knownOrigins: readonly string[]
    /** Whether the page that sends a request is let in. */
    originAllowed(request: IncomingMessage): boolean
    /** A hook that counts attempts with credentials by address. @throws AppError RATE_LIMITED. */
    limitCredentials(request: FastifyRequest): Promise<void>
  }
  interface FastifyRequest {
    /** The client's network, an IPv4 address or an IPv6 /64: the subject of limits by address. */
    readonly network: string
  }
}

const minuteMs = 60_000

/** Browsers ask again after this many seconds. */
const preflightMaxAge = 600

/** Checks origins, sets the headers that protect browsers, and limits how often credentials are tried. */
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

    await fastify.register(helmet, {
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
    })
    fastify.addHook('onRequest', (request, reply, done) => {
      // Only the documentation's files may be cached; they set this header themselves.
      reply.header('X-Request-Id', request.id).header('Cache-Control', 'no-store')
      done()
    })

    await fastify.register(cors, {
      origin: (origin, decide) => decide(null, origin !== undefined && origins.isKnown(origin)),
      // There are no cookies, but clients set `withCredentials` by habit.
      credentials: true,
      methods: ['GET', 'POST', 'PATCH', 'DELETE'],
      allowedHeaders: [
        'Authorization',
        'Content-Type',
        'Idempotency-Key',
        'Last-Event-ID',
        'Prefer',
      ],
      exposedHeaders: ['Location', 'Preference-Applied', 'Retry-After', 'X-Request-Id'],
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
    fastify.decorate('limitCredentials', async (request: FastifyRequest) => {
      const limit = config.RATE_LIMIT_CREDENTIALS_PER_MINUTE
      if (!Number.isFinite(limit)) return
      for (const { network, factor } of networksOf(request)) {
        const { count, resetMs } = await cache.hit(limitKey('credentials', network), minuteMs)
        if (count <= limit * factor) continue
        throw new AppError('RATE_LIMITED', { retryAfter: Math.max(1, Math.ceil(resetMs / 1000)) })
      }
    })
  },
  { name: 'security', dependencies: ['redis'] },
)

/** The networks that a client is counted in; the connection's own where a proxy names no address. */
function networksOf({ ip, socket }: FastifyRequest) {
  const networks = clientNetworks(ip)
  return networks.length > 0 ? networks : clientNetworks(socket.remoteAddress ?? '')
}
