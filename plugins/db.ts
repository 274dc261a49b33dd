import fp from 'fastify-plugin'
import { Histogram } from 'prom-client'
import { exposedFiles, holdDataDir, keptSecret } from '../src/stores/data-dir.js'
import { databaseOf, describeUri } from '../src/stores/mongo-uri.js'
import { openSqliteStore } from '../src/stores/sqlite.js'
import type { Store } from '../src/stores/store.js'
import { timedStore } from '../src/stores/timed.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** MongoDB, or SQLite under DATA_DIR. `fastify.mongo` is there only with MONGODB_URI. */
    store: Store
    /** JWT_SECRET, or the generated one under DATA_DIR. */
    jwtSecret: string
  }
}

const sweepEveryMs = 3_600_000

/** The store, and the JWT secret that may be kept beside it. */
export default fp(
  async (fastify) => {
    const { config, log } = fastify
    fastify.decorate('jwtSecret', config.JWT_SECRET ?? keptSecret(config.DATA_DIR))
    const store = config.MONGODB_URI ? await openMongo(config.MONGODB_URI) : openSqlite()
    const duration = new Histogram({
      name: 'store_operation_duration_seconds',
      help: 'Duration of an operation of the store.',
      labelNames: ['operation'] as const,
      buckets: [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 5],
      registers: [fastify.metrics],
    })
    fastify.decorate(
      'store',
      timedStore(store, (operation, seconds) => duration.observe({ operation }, seconds)),
    )
    fastify.addHook('onClose', async () => {
      clearInterval(sweep)
      await store.close()
    })

    const sweep = setInterval(() => {
      Promise.all([store.deleteExpiredSessions(new Date()), store.finishDeletions()]).catch(
        (error) => {
          const message =
            'could not remove expired sessions or finish deletions; retrying in an hour'
          log.warn({ err: error }, message)
        },
      )
    }, sweepEveryMs).unref()

    function openSqlite(): Store {
      const hold = holdDataDir(config.DATA_DIR)
      try {
        const opened = openSqliteStore(config.DATA_DIR)
        // Fastify runs the last hook first: the store closes before its directory is released.
        fastify.addHook('onClose', async () => hold.release())
        const exposed = exposedFiles(config.DATA_DIR)
        if (exposed.length > 0) {
          log.warn({ exposed }, 'other users may read files in DATA_DIR: chown or chmod 600 them')
        }
        log.info(`store: SQLite in ${config.DATA_DIR}; set MONGODB_URI to use MongoDB`)
        return opened
      } catch (error) {
        hold.release()
        throw error
      }
    }

    async function openMongo(uri: string): Promise<Store> {
      const where = describeUri(uri)
      const database = databaseOf(uri)
      // Shorter than Fastify's own limit, so that the error below is the one shown.
      const deadline = Date.now() + config.START_TIMEOUT_MS * 0.6
      // Loaded only where it is used: the driver takes 24 MB and a tenth of a second.
      const { connectMongo, whenThere } = await import('../src/stores/mongo/connection.js')
      const { createMongoStore } = await import('../src/stores/mongo.js')
      const { default: fastifyMongodb } = await import('@fastify/mongodb')
      try {
        // The package itself can neither wait for a server nor limit the time that takes.
        const { client, close } = await connectMongo(uri, deadline, () =>
          log.warn(
            'a heartbeat of the MongoDB driver hangs: closing the client and connecting again',
          ),
        )
        fastify.addHook('onClose', close)
        await fastify.register(fastifyMongodb, { client, database })
        const db = fastify.mongo.client.db(database)
        const opened = await whenThere(deadline, () => createMongoStore(db))
        log.info(`store: MongoDB at ${where}; unset MONGODB_URI to use SQLite in DATA_DIR`)
        return opened
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        throw new Error(
          `MONGODB_URI: MongoDB at ${where} cannot be used: ${reason}. ` +
            'Start it or correct MONGODB_URI; unset it to use SQLite in DATA_DIR.',
        )
      }
    }
  },
  { name: 'db', dependencies: ['observability'] },
)
