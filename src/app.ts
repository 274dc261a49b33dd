import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import autoload from '@fastify/autoload'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyHttpOptions, type FastifyInstance } from 'fastify'
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
  closeConnections(app)
  app.register(autoload, { dir: join(root, 'plugins'), forceESM: true })
  app.register(autoload, { dir: join(root, 'routes'), forceESM: true, autoHooks: true })
  return app
}

/**
 * Node's own close waits for every connection that is not idle at that moment, and a client may
 * stay silent in the midst of a request, of a WebSocket, or before it has said anything.
 */
function closeConnections(app: FastifyInstance): void {
  const { server, config } = app
  const open = new Set<Socket>()
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  app.addHook('preClose', async () => {
    const timer = setInterval(() => {
      server.closeIdleConnections()
      for (const socket of open) if (socket.bytesRead === 0) socket.destroy()
    }, idleCheckMs).unref()
    const last = setTimeout(() => {
      for (const socket of open) socket.destroy()
    }, config.SHUTDOWN_GRACE_MS * patience).unref()
    server.once('close', () => {
      clearInterval(timer)
      clearTimeout(last)
    })
  })
}
