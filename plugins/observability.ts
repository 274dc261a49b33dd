import { hash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Health, HealthStatus } from '../schemas/health.js'
import { isLoopback } from '../src/auth/client-network.js'
import { AppError } from '../src/errors.js'
import { within } from '../src/within.js'

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Registry
    /** A hook that requires METRICS_TOKEN; without that setting, production serves this machine only. */
    guardMetrics(request: FastifyRequest): Promise<void>
    /** Asks every service, each at most once at a time. */
    checkHealth(): Promise<Health>
    /** `closing` is true once the server is shutting down. */
    lifecycle: { closing: boolean }
  }
  interface FastifyContextConfig {
    /** Logs no line per request: probes come every second. */
    quiet?: boolean
  }
}

/** A service that answers later counts as down, in milliseconds. */
const pingMs = 1000

let processRegistry: Registry | undefined

/** The process's metrics, collected once for all apps in it: their observers cannot be removed. */
function processMetrics(): Registry {
  if (!processRegistry) {
    processRegistry = new Registry()
    // prom-client's own 10 ms wake an idle process a hundred times a second.
    collectDefaultMetrics({ register: processRegistry, eventLoopMonitoringPrecision: 100 })
  }
  return processRegistry
}

/** A route's pattern: ids and unknown paths must not become labels. */
const routeOf = (request: FastifyRequest) => request.routeOptions.url ?? 'unmatched'

/** Metrics, one log line per finished request, and whether the server is shutting down. */
export default fp(
  async (fastify) => {
    const metrics = Registry.merge([processMetrics()])
    const duration = new Histogram({
      name: 'http_request_duration_seconds',
      help: 'From a request to the end of its response.',
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

    let checking: Promise<Health> | undefined
    fastify.decorate('checkHealth', () => {
      checking ??= checkHealth(fastify).finally(() => {
        checking = undefined
      })
      return checking
    })

    const up = new Gauge({
      name: 'chat_service_up',
      help: 'Whether a service answers, as GET /health/ready tells it.',
      labelNames: ['service'] as const,
      registers: [metrics],
      async collect() {
        const { services } = await fastify.checkHealth()
        for (const [service, { status }] of Object.entries(services)) {
          up.set({ service }, status === 'ok' ? 1 : 0)
        }
      },
    })

    fastify.addHook('onRequest', (request, reply, done) => {
      // Fastify's onResponse hook does not run when the client disconnects early.
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

async function checkHealth({ store, cache, ollama, lifecycle }: FastifyInstance): Promise<Health> {
  const [db, redis, model] = await Promise.all([
    statusOf(() => store.ping()),
    statusOf(() => cache.ping()),
    statusOf(() => ollama.client.version()),
  ])
  const services = { db: { status: db }, redis: { status: redis }, ollama: { status: model } }
  if (lifecycle.closing) return { status: 'shutting-down', services }
  if (db === 'down') return { status: 'down', services }
  return { status: redis === 'down' || model === 'down' ? 'degraded' : 'ok', services }
}

async function statusOf(ping: () => Promise<unknown>): Promise<HealthStatus> {
  // The error is not logged here: the code that uses the service logs it.
  const isUp = (async () => ping())().then(
    () => true,
    () => false,
  )
  return (await within(isUp, pingMs)) ? 'ok' : 'down'
}

/** @throws AppError UNAUTHORIZED. */
function wantBearer({ headers }: FastifyRequest, token: string): void {
  const given = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1] ?? ''
  // Hashes have equal length, and comparing them takes the same time whatever is right.
  if (timingSafeEqual(hash('sha256', given, 'buffer'), hash('sha256', token, 'buffer'))) return
  throw new AppError('UNAUTHORIZED', {
    message: 'Metrics require METRICS_TOKEN: `Authorization: Bearer <token>`.',
  })
}

/** Whether a request comes from this machine, and not through a proxy. */
function isLocal({ headers, socket }: FastifyRequest): boolean {
  const isForwarded = headers['x-forwarded-for'] !== undefined || headers.forwarded !== undefined
  return !isForwarded && isLoopback(socket.remoteAddress)
}

function logFinished(request: FastifyRequest, reply: FastifyReply): void {
  request.log.info(
    {
      method: request.method,
      route: routeOf(request),
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      // Undefined on routes without authentication, in spite of its type.
      userId: request.session?.userId,
      // The client disconnected before the end of the response.
      aborted: reply.raw.writableFinished ? undefined : true,
    },
    'request',
  )
}
