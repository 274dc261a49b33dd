import { IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import cors from '@fastify/cors'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import helmet from 'helmet'
import { clientNetwork } from '../src/auth/client-network.js'
import { createOrigins } from '../src/auth/origins.js'
import { limitKey } from '../src/cache/keys.js'
import { AppError } from '../src/errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Whether a page of `origin` may speak to this server, which the client calls `host`; without
     * an origin it is no browser.
     */
    originAllowed(origin: string | undefined, host: string | undefined): boolean
    /** A hook that counts attempts with credentials by address. @throws AppError RATE_LIMITED. */
    limitCredentials(request: FastifyRequest): Promise<void>
  }
  interface FastifyRequest {
    /** The client's network: the subject of limits by address. */
    readonly network: string
  }
}

const minuteMs = 60_000

/** Browsers ask again after this many seconds. */
const preflightMaxAge = 600

/** Who may call: origins, how browsers treat answers, and how often credentials may be tried. */
export default fp(
  async (fastify) => {
    const { config, cache } = fastify
    const origins = createOrigins(config.FRONTEND_URL)
    fastify.decorate('originAllowed', origins.isAllowed)

    const everywhere = protection(config.NODE_ENV === 'production')
    fastify.addHook('onRequest', (request, reply, done) => {
      reply.headers(everywhere).header('X-Request-Id', request.id)
      done()
    })

    await fastify.register(cors, {
      // A page of the server's own needs no leave, and a foreign one gets none.
      origin: (origin, decide) => decide(null, origin !== undefined && origins.isFrontend(origin)),
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
      const allowed = reads || origins.isAllowed(request.headers.origin, request.host)
      done(allowed ? undefined : new AppError('ORIGIN_REFUSED'))
    })

    fastify.decorateRequest('network', {
      getter() {
        return clientNetwork(this.ip)
      },
    })
    fastify.decorate('limitCredentials', async (request: FastifyRequest) => {
      if (!Number.isFinite(config.RATE_LIMIT_CREDENTIALS_PER_MINUTE)) return
      const key = limitKey('credentials', request.network)
      const { count, resetMs } = await cache.hit(key, minuteMs)
      if (count <= config.RATE_LIMIT_CREDENTIALS_PER_MINUTE) return
      throw new AppError('RATE_LIMITED', { retryAfter: Math.max(1, Math.ceil(resetMs / 1000)) })
    })
  },
  { name: 'security', dependencies: ['redis'] },
)

/** The headers that protect a browser. They are the same on every answer, so they are made once. */
function protection(isProduction: boolean): OutgoingHttpHeaders {
  const response = new ServerResponse(new IncomingMessage(new Socket()))
  const protect = helmet({
    // The page and the documentation are served from here alone, and framed by nobody.
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
    hsts: isProduction,
  })
  protect(response.req, response, (error) => {
    if (error) throw error
  })
  return response.getHeaders()
}
