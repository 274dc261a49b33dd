import { serversChannel } from '../cache/keys.js'
import type { Slots } from '../cache/slots.js'
import type { SharedSlots } from '../queue/fair-queue.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { ClusterBus, ClusterMessage } from './cluster-bus.js'

/** The slots that servers share, as the queue asks for them; others hear when one is given back. */
export function shareSlots(slots: Slots, bus: ClusterBus, renewMs: number): SharedSlots<LiveReply> {
  return {
    renewMs,

    take: (reply) => slots.take(reply),

    async release(reply) {
      await slots.release(reply)
      bus.tell(serversChannel, { freed: true } satisfies ClusterMessage)
    },

    tellWaiting: (userId, waiting) => slots.tellWaiting(userId, waiting),

    renew: (held, waiting) => slots.renew(held, waiting),
  }
}
