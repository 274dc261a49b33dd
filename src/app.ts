import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import autoload from '@fastify/autoload'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyHttpOptions } from 'fastify'
import { createTrust } from './auth/client-network.js'
import type { Config } from './config.js'
import { answerClientError } from './http/client-error.js'
import { ignoreOtherUpgrades, isWebSocketUpgrade } from './http/upgrades.js'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
    /** Every TCP connection, those that were upgraded to a WebSocket included. */
    connections: ReadonlySet<Socket>
  }
}

/** How often connections that have become idle are closed while the server goes down. */
const idleCheckMs = 20
/** The part of the grace after which every connection is closed, whatever it is about. */
const patience = 0.5
const loggedConnections = 10

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
    trustProxy: createTrust(config.TRUST_PROXY),
    genReqId: () => crypto.randomUUID(),
    routerOptions: { ignoreTrailingSlash: true },
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
    http: { shouldUpgradeCallback: isWebSocketUpgrade, ...options.http },
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.addHook('onReady', async () => ignoreOtherUpgrades(app.server))
  app.decorate('config', config)
  const connections = trackConnections(app.server)
  app.decorate('connections', connections)
  app.addHook('preClose', async () => {
    closeConnections(app.server, config.SHUTDOWN_GRACE_MS * patience, () => {
      if (connections.size === 0) return
      const from = remoteAddresses(connections)
      app.log.warn(
        { connections: connections.size, from },
        'connections that their clients keep open are closed: the server goes down',
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
    // One whose upgrade was ignored comes again (src/http/upgrades.ts).
    if (connections.has(connection)) return
    connections.add(connection)
    connection.once('close', () => connections.delete(connection))
  })
  return connections
}

/** The addresses of the first of them, for a log line. */
function remoteAddresses(connections: ReadonlySet<Socket>): string[] {
  return [...connections]
    .slice(0, loggedConnections)
    .map(({ remoteAddress, remotePort }) => `${remoteAddress}:${remotePort}`)
}

/**
 * Closes connections as they become idle, and has `closeRest` close the others after `graceMs`: those
 * of clients that send half a request, read nothing, or do not answer the close of a WebSocket.
 */
function closeConnections(server: Server, graceMs: number, closeRest: () => void): void {
  const idle = setInterval(() => server.closeIdleConnections(), idleCheckMs)
  const rest = setTimeout(closeRest, graceMs).unref()
  server.once('close', () => {
    clearInterval(idle)
    clearTimeout(rest)
  })
}
