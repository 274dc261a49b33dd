import { setTimeout as delay } from 'node:timers/promises'
import type { MongoClient } from 'mongodb'
import { within } from '../../within.js'

/** Added to what the driver itself allows a heartbeat, in milliseconds. */
const marginMs = 1000
const retryMs = 250
const closeMs = 2000

/**
 * Closes and connects a client again when a heartbeat of the driver hangs. The driver (7.9.0,
 * Connection.writeCommand) waits for ever for `drain` of a socket that closes while a heartbeat is
 * being written, and then never notices that the server is back.
 * @param onStuck called when a heartbeat is overdue, before the client is closed.
 * @returns a function that ends the watch; the caller closes the client.
 */
export function reviveStuckMonitor(client: MongoClient, onStuck: () => void): () => void {
  const { heartbeatFrequencyMS, connectTimeoutMS } = client.options
  const limitMs = heartbeatFrequencyMS + connectTimeoutMS + marginMs
  /** A timer for each server with a heartbeat under way. */
  const underWay = new Map<string, NodeJS.Timeout>()
  let ended = false

  client.on('serverHeartbeatStarted', ({ connectionId }) => {
    answered(connectionId)
    const timer = setTimeout(() => void revive(), limitMs).unref()
    if (ended) clearTimeout(timer)
    else underWay.set(connectionId, timer)
  })
  client.on('serverHeartbeatSucceeded', ({ connectionId }) => answered(connectionId))
  client.on('serverHeartbeatFailed', ({ connectionId }) => answered(connectionId))
  client.on('serverClosed', ({ address }) => answered(address))

  function answered(address: string): void {
    clearTimeout(underWay.get(address))
    underWay.delete(address)
  }

  function forgetAll(): void {
    for (const address of [...underWay.keys()]) answered(address)
  }

  async function revive(): Promise<void> {
    forgetAll()
    onStuck()
    // Operations fail meanwhile, as they did while the driver hung.
    await within(client.close(true), closeMs)
    while (!ended) {
      try {
        await client.connect()
        break
      } catch {
        await delay(retryMs, undefined, { ref: false })
      }
    }
    if (ended) await client.close(true)
  }

  return () => {
    ended = true
    forgetAll()
  }
}
