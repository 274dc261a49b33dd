import { hash, timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client'
import { isLoopback } from '../src/auth/client-network.js'
import { AppError } from '../src/errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Registry
    /** A hook that lets in METRICS_TOKEN's bearer; without one, in production, this machine alone. */
    guardMetrics(request: FastifyRequest): Promise<void>
    /** `closing` turns true once the server is on its way down. */
    lifecycle: { closing: boolean }
  }
  interface FastifyContextConfig {
    /** No log line for a finished request: probes come every second. */
    quiet?: boolean
  }
}

let processRegistry: Registry | undefined

/** The process's own metrics, collected once however many apps it holds: their observers never end. */
function processMetrics(): Registry {
  if (!processRegistry) {
    processRegistry = new Registry()
    collectDefaultMetrics({ register: processRegistry })
  }
  return processRegistry
}

/** A route's pattern, so that ids and unknown paths make no labels of their own. */
const routeOf = (request: FastifyRequest) => request.routeOptions.url ?? 'unmatched'

/** Metrics, one log line for each finished request, and whether the server is going down. */
export default fp(
  async (fastify) => {
    const metrics = Registry.merge([processMetrics()])
    const duration = new Histogram({
      name: 'http_request_duration_seconds',
      help: 'From the request to the end of its answer.',
      labelNames: ['method', 'route', 'status'] as const,
      buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30],
      registers: [metrics],
    })
    const lifecycle = { closing: false }
    fastify.decorate('metrics', metrics)
    fastify.decorate('lifecycle', lifecycle)
    const { METRICS_TOKEN, NODE_ENV } = fastify.config
    fastify.decorate('guardMetrics', async (request: FastifyRequest) => {
      if (METRICS_TOKEN !== undefined) wantBearer(request, METRICS_TOKEN)
      else if (NODE_ENV === 'production' && !isLocal(request)) throw new AppError('METRICS_REFUSED')
    })
    fastify.addHook('preClose', async () => {
      lifecycle.closing = true
    })

    fastify.addHook('onRequest', (request, reply, done) => {
      // Fastify's onResponse does not come when the client goes away in the middle.
      reply.raw.once('close', () => {
        const { method } = request
        const status = reply.statusCode
        duration.observe({ method, route: routeOf(request), status }, reply.elapsedTime / 1000)
        if (!request.routeOptions.config.quiet) logFinished(request, reply)
      })
      done()
    })
  },
  { name: 'observability' },
)

/** @throws AppError UNAUTHORIZED. */
function wantBearer({ headers }: FastifyRequest, token: string): void {
  const given = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1] ?? ''
  // Hashed, so that both have one length and the time tells nothing of how much was right.
  if (timingSafeEqual(hash('sha256', given, 'buffer'), hash('sha256', token, 'buffer'))) return
  throw new AppError('UNAUTHORIZED', {
    message: 'Metrics want METRICS_TOKEN: Authorization: Bearer <token>.',
  })
}

/** Whether a request comes from this machine and no proxy has passed it on. */
function isLocal({ headers, socket }: FastifyRequest): boolean {
  const isPassedOn = headers['x-forwarded-for'] !== undefined || headers.forwarded !== undefined
  return !isPassedOn && isLoopback(socket.remoteAddress)
}

function logFinished(request: FastifyRequest, reply: FastifyReply): void {
  request.log.info(
    {
      method: request.method,
      route: routeOf(request),
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      // Unset where no token is asked for, whatever its type says.
      userId: request.session?.userId,
      // The client went away before the answer's end.
      aborted: reply.raw.writableFinished ? undefined : true,
    },
    'request',
  )
}
