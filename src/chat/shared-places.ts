import { serversChannel } from '../cache/keys.js'
import type { Places } from '../cache/places.js'
import type { Store } from '../stores/store.js'
import type { SharedPlaces } from './fair-queue.js'
import type { LiveReply } from './live-reply.js'
import type { Peers } from './peers.js'

/** The places that servers share, as the queue asks for them; others hear when one is free. */
export function sharePlaces(
  places: Places,
  store: Store,
  peers: Peers,
  renewMs: number,
): SharedPlaces<LiveReply> {
  return {
    renewMs,

    async take(reply) {
      // An earlier reply of the chat may wait or run at another server.
      const active = await store.listActiveReplies(reply.chatId)
      if (active.some(({ seq }) => seq < reply.row.seq)) return 'chat-busy'
      return (await places.take(reply)) ? 'granted' : 'full'
    },

    async release(reply) {
      await places.release(reply)
      peers.tell(serversChannel, { freed: true })
    },

    renew: (held, waiting) => places.renew(held, waiting),
  }
}
