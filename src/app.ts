import type { Server } from 'node:http'
import { join } from 'node:path'
import autoload from '@fastify/autoload'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyHttpOptions } from 'fastify'
import { answerClientError } from './client-error.js'
import type { Config } from './config.js'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
  }
}

/** How often connections that have become idle are closed while the server goes down. */
const idleCheckMs = 20
/** The part of the grace after which every connection is closed, whatever it is about. */
const patience = 0.5

const root = join(import.meta.dirname, '..')

/**
 * The whole application, not yet listening: `await app.ready()` connects its services, `app.close()`
 * closes them.
 * @param options the logger, and what else a test changes of Fastify's own.
 */
export function createApp(config: Config, options: FastifyHttpOptions<Server> = {}) {
  const app = Fastify({
    bodyLimit: 1024 * 1024,
    requestTimeout: 30_000,
    keepAliveTimeout: 72_000,
    pluginTimeout: config.START_TIMEOUT_MS,
    trustProxy: config.TRUST_PROXY,
    genReqId: () => crypto.randomUUID(),
    exposeHeadRoutes: false,
    // plugins/observability.ts logs one line a request.
    logController: new Fastify.LogController({
      disableRequestLogging: true,
      requestIdLogLabel: 'requestId',
    }),
    forceCloseConnections: 'idle',
    // Readiness says so, and what would begin something new refuses by itself.
    return503OnClosing: false,
    clientErrorHandler: answerClientError,
    // A URL that cannot be read is refused before any route, and yet answered like any error.
    frameworkErrors: (error, request, reply) => request.server.errorHandler(error, request, reply),
    ...options,
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.decorate('config', config)
  app.addHook('preClose', async () => {
    closeConnections(app.server, config.SHUTDOWN_GRACE_MS * patience)
  })
  app.register(autoload, { dir: join(root, 'plugins'), forceESM: true })
  app.register(autoload, { dir: join(root, 'routes'), forceESM: true, autoHooks: true })
  return app
}

/**
 * Closes connections as they become idle, and after `graceMs` those that do not: a client that sends
 * half a request, or reads nothing, or sends nothing at all keeps no server from going down.
 */
function closeConnections(server: Server, graceMs: number): void {
  const idle = setInterval(() => server.closeIdleConnections(), idleCheckMs)
  const rest = setTimeout(() => server.closeAllConnections(), graceMs).unref()
  server.once('close', () => {
    clearInterval(idle)
    clearTimeout(rest)
  })
}
