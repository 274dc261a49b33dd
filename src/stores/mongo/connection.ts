import { setTimeout as delay } from 'node:timers/promises'
import {
  MongoClient,
  MongoCompatibilityError,
  MongoNetworkError,
  MongoServerSelectionError,
} from 'mongodb'
import { within } from '../../within.js'
import { reviveStuckMonitor } from './stuck-monitor.js'

/** For what the URI leaves open. A server that is away is noticed within `operationTimeoutMs`. */
const defaults = {
  serverSelectionTimeoutMS: 2500,
  connectTimeoutMS: 2500,
  heartbeatFrequencyMS: 2000,
  // A connection without an answer for this long is closed.
  socketTimeoutMS: 10_000,
}

const retryMs = 250
/** The longest that closing a client waits for its connections, in milliseconds. */
const closeMs = 2000
const oldestSupported = [4, 4] as const

/**
 * Repeats an operation of the start while the server is away.
 * @param deadline in milliseconds since 1970.
 * @throws the driver's error.
 */
export async function whenThere<T>(deadline: number, operation: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await operation()
    } catch (error) {
      const isAway =
        error instanceof MongoServerSelectionError || error instanceof MongoNetworkError
      // The driver reports a server that it finds too old as one that is away.
      const isTooOld = isAway && error.cause instanceof MongoCompatibilityError
      if (!isAway || isTooOld || Date.now() + retryMs > deadline) throw error
      await delay(retryMs)
    }
  }
}

/**
 * Connects to a MongoDB that is new enough.
 * @param deadline how long to wait for a server that is away, in milliseconds since 1970.
 * @param onStuck called when the driver hangs, before its client is connected again.
 * @returns the client, and how to close it.
 * @throws the driver's error, or one that names the version that is needed.
 */
export async function connectMongo(uri: string, deadline: number, onStuck: () => void) {
  const client = new MongoClient(uri, defaultsFor(uri))
  const end = () => within(client.close(true), closeMs)
  try {
    await whenThere(deadline, async () => {
      await client.connect()
      await refuseOld(client)
    })
  } catch (error) {
    await end()
    const reason = error instanceof MongoServerSelectionError ? error.cause : error
    throw reason instanceof MongoCompatibilityError ? tooOld(reason.message) : error
  }
  const endWatch = reviveStuckMonitor(client, onStuck)
  return {
    client,
    async close() {
      endWatch()
      await end()
    },
  }
}

/** The defaults without those that the URI sets. */
function defaultsFor(uri: string): Partial<typeof defaults> {
  const query = uri.slice(uri.indexOf('?')).toLowerCase()
  return Object.fromEntries(
    Object.entries(defaults).filter(([name]) => !query.includes(`${name.toLowerCase()}=`)),
  )
}

async function refuseOld(client: MongoClient): Promise<void> {
  const { version } = await client.db('admin').command({ buildInfo: 1 })
  const [major = 0, minor = 0] = String(version).split('.').map(Number)
  const [oldestMajor, oldestMinor] = oldestSupported
  const isOld = major < oldestMajor || (major === oldestMajor && minor < oldestMinor)
  if (isOld) throw tooOld(`it is version ${version}`)
}

const tooOld = (what: string) =>
  new Error(`${what}, and ${oldestSupported.join('.')} or later is wanted`)
