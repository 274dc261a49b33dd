import { setTimeout as delay } from 'node:timers/promises'
import {
  MongoClient,
  MongoCompatibilityError,
  MongoNetworkError,
  MongoServerSelectionError,
} from 'mongodb'
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
const oldestSupported = [4, 4] as const

/** A client, and how to close it. */
export interface MongoConnection {
  client: MongoClient
  close: () => Promise<void>
}

/**
 * A client of a MongoDB that answers and is new enough; its caller closes it.
 * @param timeoutMs how long to wait for a server that is not there yet.
 * @param onStuck called when the driver hangs and the client is connected anew.
 * @throws the driver's error, or one that names the version that is wanted.
 */
export async function connectMongo(
  uri: string,
  timeoutMs: number,
  onStuck: () => void,
): Promise<MongoConnection> {
  const deadline = Date.now() + timeoutMs
  const client = new MongoClient(uri, unsaid(uri))
  try {
    for (;;) {
      try {
        await client.connect()
        break
      } catch (error) {
        const isAway =
          error instanceof MongoServerSelectionError || error instanceof MongoNetworkError
        // The driver refuses the oldest itself.
        const reason = error instanceof MongoServerSelectionError ? error.cause : error
        if (reason instanceof MongoCompatibilityError) throw tooOld(reason.message)
        if (!isAway || Date.now() + retryMs > deadline) throw error
        await delay(retryMs)
      }
    }
    await refuseOld(client)
    const endWatch = reviveStuckMonitor(client, onStuck)
    return {
      client,
      async close() {
        endWatch()
        await client.close(true)
      },
    }
  } catch (error) {
    await client.close(true)
    throw error
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
