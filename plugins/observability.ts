import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client'

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Registry
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
