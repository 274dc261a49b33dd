import { setTimeout as delay } from 'node:timers/promises'
import {
  MongoClient,
  MongoCompatibilityError,
  MongoNetworkError,
  MongoServerSelectionError,
} from 'mongodb'
import { within } from '../../within.js'
import { reviveStuckMonitor } from './stuck-monitor.js'

/** What a URI does not say: a server that is away is noticed within the store's own time limit. */
const defaults = {
  serverSelectionTimeoutMS: 2500,
  connectTimeoutMS: 2500,
  heartbeatFrequencyMS: 2000,
  // A connection on which nothing comes back is given up, and made anew.
  socketTimeoutMS: 10_000,
} as const

const retryMs = 250
/** How long a client that is closed waits for its connections, in milliseconds. */
const closeMs = 2000
const oldestSupported = [4, 4] as const

/** A client, and how to close it. */
export interface MongoConnection {
  client: MongoClient
  close: () => Promise<void>
}

/**
 * Does what a start needs of MongoDB, again for as long as the server is away.
 * @param deadline until when, in milliseconds since 1970.
 * @throws the driver's error.
 */
export async function whenThere<T>(deadline: number, operation: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await operation()
    } catch (error) {
      const isAway =
        error instanceof MongoServerSelectionError || error instanceof MongoNetworkError
      // One that is too old is there.
      const isTooOld = isAway && error.cause instanceof MongoCompatibilityError
      if (!isAway || isTooOld || Date.now() + retryMs > deadline) throw error
      await delay(retryMs)
    }
  }
}

/**
 * A client of a MongoDB that answers and is new enough; its caller closes it.
 * @param deadline until when a server that is not there yet is waited for, in milliseconds since 1970.
 * @param onStuck called when the driver hangs and the client is connected anew.
 * @throws the driver's error, or one that names the version that is wanted.
 */
export async function connectMongo(
  uri: string,
  deadline: number,
  onStuck: () => void,
): Promise<MongoConnection> {
  const client = new MongoClient(uri, unsaid(uri))
  try {
    await whenThere(deadline, async () => {
      await client.connect()
      await refuseOld(client)
    })
    const endWatch = reviveStuckMonitor(client, onStuck)
    return {
      client,
      async close() {
        endWatch()
        await within(client.close(true), closeMs)
      },
    }
  } catch (error) {
    await within(client.close(true), closeMs)
    // The driver refuses the oldest itself.
    const reason = error instanceof MongoServerSelectionError ? error.cause : error
    throw reason instanceof MongoCompatibilityError ? tooOld(reason.message) : error
  }
}

function unsaid(uri: string): Partial<typeof defaults> {
  const said = uri.slice(uri.indexOf('?')).toLowerCase()
  return Object.fromEntries(
    Object.entries(defaults).filter(([name]) => !said.includes(`${name.toLowerCase()}=`)),
  )
}

async function refuseOld(client: MongoClient): Promise<void> {
  const { version } = await client.db('admin').command({ buildInfo: 1 })
  const [major = 0, minor = 0] = String(version).split('.').map(Number)
  const [wantedMajor, wantedMinor] = oldestSupported
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return
  throw tooOld(`it is version ${version}`)
}

const tooOld = (what: string) =>
  new Error(`${what}, and ${oldestSupported.join('.')} or later is wanted`)
