import fp from 'fastify-plugin'
import { Histogram } from 'prom-client'
import { exposedFiles, holdDataDir, keptSecret } from '../src/stores/data-dir.js'
import type { MongoConnection } from '../src/stores/mongo/connection.js'
import { openSqliteStore } from '../src/stores/sqlite.js'
import type { Store } from '../src/stores/store.js'
import { timedStore } from '../src/stores/timed.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The store: MongoDB, or SQLite under DATA_DIR. */
    store: Store
    /** JWT_SECRET, or the one kept under DATA_DIR. */
    jwtSecret: string
  }
}

const sweepEveryMs = 3_600_000

/** The store, and the secret that is kept beside it. */
export default fp(
  async (fastify) => {
    const { config, log } = fastify
    fastify.decorate('jwtSecret', config.JWT_SECRET ?? keptSecret(config.DATA_DIR))
    const store = config.MONGODB_URI ? await openMongo(config.MONGODB_URI) : openSqlite()
    const duration = new Histogram({
      name: 'store_operation_duration_seconds',
      help: 'What an operation of the store took.',
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
            'expired sessions or begun deletions could not be removed; tried again in an hour'
          log.warn({ err: error }, message)
        },
      )
    }, sweepEveryMs).unref()

    function openSqlite(): Store {
      const hold = holdDataDir(config.DATA_DIR)
      try {
        const opened = openSqliteStore(config.DATA_DIR)
        // Closing runs the last hook first: the store is closed before its directory is given back.
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
      const where = describe(uri)
      // Within Fastify's own limit, so that the error that is told is this one.
      const deadline = Date.now() + config.START_TIMEOUT_MS * 0.6
      // The MongoDB driver takes 24 MB and a tenth of a second: it is loaded only where it is used.
      const { connectMongo } = await import('../src/stores/mongo/connection.js')
      try {
        const connection = await connectMongo(uri, deadline, () =>
          log.warn('MongoDB’s driver hangs: connecting anew'),
        )
        const opened = await openMongoStore(connection, uri, deadline)
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

    /** The client is closed with the store, or at once where the store cannot be used. */
    async function openMongoStore(
      { client, close }: MongoConnection,
      uri: string,
      deadline: number,
    ): Promise<Store> {
      try {
        const { default: fastifyMongodb } = await import('@fastify/mongodb')
        const { createMongoStore } = await import('../src/stores/mongo.js')
        const { whenThere } = await import('../src/stores/mongo/connection.js')
        await fastify.register(fastifyMongodb, { client })
        return await whenThere(deadline, () => createMongoStore(client.db(databaseOf(uri)), close))
      } catch (error) {
        await close()
        throw error
      }
    }
  },
  { name: 'db', dependencies: ['observability'] },
)

/** The database that the URI names, else one of our own. */
const databaseOf = (uri: string) => /^[^/]*\/\/[^/]*\/([^?]+)/.exec(uri)?.[1] ?? 'durable-chat'

/** The URI's hosts and database: what is before the last @ may be a password, however it was written. */
function describe(uri: string): string {
  return uri
    .replace(/^mongodb(\+srv)?:\/\//, '')
    .replace(/^.*@/s, '')
    .replace(/\?.*$/s, '')
}
