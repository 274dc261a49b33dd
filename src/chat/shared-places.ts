import { serversChannel } from '../cache/keys.js'
import type { Places } from '../cache/places.js'
import type { SharedPlaces } from './fair-queue.js'
import type { LiveReply } from './live-reply.js'
import type { Peers } from './peers.js'

/** The places that servers share, as the queue asks for them; others hear when one is free. */
export function sharePlaces(
  places: Places,
  peers: Peers,
  renewMs: number,
): SharedPlaces<LiveReply> {
  return {
    renewMs,

    take: (reply) => places.take(reply),

    async release(reply) {
      await places.release(reply)
      peers.tell(serversChannel, { freed: true })
    },

    tellWaiting: (userId, waiting) => places.tellWaiting(userId, waiting),

    renew: (held, waiting) => places.renew(held, waiting),
  }
}
