import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import autoload from '@fastify/autoload'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyHttpOptions } from 'fastify'
import { createTrust } from './auth/client-network.js'
import type { Config } from './config.js'
import { answerClientError } from './http/client-error.js'
import { traceIdOf } from './http/trace-context.js'
import { ignoreOtherUpgrades, isWebSocketUpgrade } from './http/upgrades.js'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
    /** Every open TCP connection, including WebSockets. */
    connections: ReadonlySet<Socket>
  }
}

/** How often the closing server looks for idle connections to close, in milliseconds. */
const idleCheckMs = 20
/** The part of SHUTDOWN_GRACE_MS after which busy connections are closed too. */
const closeAllAt = 0.5
const maxLoggedConnections = 10

const root = join(import.meta.dirname, '..')

/**
 * Creates the application, not yet listening: `await app.ready()` connects its services, `app.close()`
 * closes them.
 * @param options Fastify's own options: the logger, and what a test changes.
 */
export function createApp(config: Config, options: FastifyHttpOptions<Server> = {}) {
  const app = Fastify({
    bodyLimit: 1024 * 1024,
    requestTimeout: 30_000,
    keepAliveTimeout: 72_000,
    pluginTimeout: config.START_TIMEOUT_MS,
    trustProxy: createTrust(config.TRUST_PROXY),
    genReqId: () => crypto.randomUUID(),
    routerOptions: { ignoreTrailingSlash: true },
    // plugins/observability.ts logs one line per request.
    logController: new Fastify.LogController({
      disableRequestLogging: true,
      requestIdLogLabel: 'requestId',
    }),
    childLoggerFactory: (logger, bindings, options, request) => {
      const traceId = traceIdOf(request.headers.traceparent)
      return logger.child(traceId === undefined ? bindings : { ...bindings, traceId }, options)
    },
    forceCloseConnections: 'idle',
    // GET /health/ready tells that the server is closing, and the engine refuses new messages.
    return503OnClosing: false,
    clientErrorHandler: answerClientError,
    // Fastify refuses a malformed URL before any route; it gets the usual error shape.
    frameworkErrors: (error, request, reply) => request.server.errorHandler(error, request, reply),
    ...options,
    http: { shouldUpgradeCallback: isWebSocketUpgrade, ...options.http },
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.addHook('onReady', async () => ignoreOtherUpgrades(app.server))
  app.decorate('config', config)
  const connections = trackConnections(app.server)
  app.decorate('connections', connections)
  app.addHook('preClose', async () => {
    closeConnections(app.server, config.SHUTDOWN_GRACE_MS * closeAllAt, () => {
      if (connections.size === 0) return
      const from = remoteAddresses(connections)
      app.log.warn(
        { connections: connections.size, from },
        'closing connections that clients keep open, because the server is shutting down',
      )
      for (const connection of connections) connection.destroy()
    })
  })
  app.register(autoload, { dir: join(root, 'plugins'), forceESM: true })
  app.register(autoload, { dir: join(root, 'routes'), forceESM: true, autoHooks: true })
  return app
}

function trackConnections(server: Server): ReadonlySet<Socket> {
  const connections = new Set<Socket>()
  server.on('connection', (connection) => {
    // ignoreOtherUpgrades emits `connection` a second time for the same socket.
    if (connections.has(connection)) return
    connections.add(connection)
    connection.once('close', () => connections.delete(connection))
  })
  return connections
}

/** The first remote addresses, for a log line. */
function remoteAddresses(connections: ReadonlySet<Socket>): string[] {
  return [...connections]
    .slice(0, maxLoggedConnections)
    .map(({ remoteAddress, remotePort }) => `${remoteAddress}:${remotePort}`)
}

/**
 * Closes connections as they become idle. After `graceMs` calls `closeRest` for the others, whose
 * clients sent half a request, do not read, or did not answer a WebSocket's close.
 */
function closeConnections(server: Server, graceMs: number, closeRest: () => void): void {
  const idle = setInterval(() => server.closeIdleConnections(), idleCheckMs)
  const rest = setTimeout(closeRest, graceMs).unref()
  server.once('close', () => {
    clearInterval(idle)
    clearTimeout(rest)
  })
}
