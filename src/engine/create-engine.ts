import type { Cache } from '../cache/cache.js'
import type { Slots } from '../cache/slots.js'
import type { StreamLog } from '../cache/stream-log.js'
import { noCluster } from '../cluster/cluster.js'
import { ClusterBus } from '../cluster/cluster-bus.js'
import { ClusterPublisher } from '../cluster/cluster-publisher.js'
import { LogWriter } from '../cluster/log-writer.js'
import { RemoteReplies } from '../cluster/remote-replies.js'
import { shareSlots } from '../cluster/shared-slots.js'
import { ReplyReader } from '../follow/reply-reader.js'
import { newId } from '../ids.js'
import type { Log } from '../logging.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import type { OllamaClient } from '../ollama/client.js'
import { ContextWindows } from '../prompt/context-windows.js'
import { DeterministicReplies } from '../prompt/deterministic.js'
import type { OptionLimits } from '../prompt/option-limits.js'
import { TokenEstimate } from '../prompt/token-estimate.js'
import type { QueueLimits } from '../queue/fair-order.js'
import { FairQueue } from '../queue/fair-queue.js'
import type { ChatEvents } from '../reply/chat-events.js'
import { HeldReplies } from '../reply/held-replies.js'
import type { LiveReply } from '../reply/live-reply.js'
import { ReplyState } from '../reply/reply-state.js'
import type { Store } from '../stores/store.js'
import { Accept } from './accept.js'
import { Checkpoints } from './checkpoints.js'
import { EarlierReplies } from './earlier-replies.js'
import { Flusher } from './flusher.js'
import { Generations } from './generations.js'
import { Leases } from './leases.js'
import { ReplyGenerator } from './reply-generator.js'
import { Runner } from './runner.js'
import { Stopping } from './stopping.js'
import { Takeover } from './takeover.js'
import { UnconfirmedTurns } from './unconfirmed-turns.js'

interface Services {
  store: Store
  cache: Cache
  /** Present where several servers are one system. */
  shared?: { streamLog: StreamLog; slots: Slots } | undefined
  client: OllamaClient
  catalogue: ModelCatalogue
  chatEvents: ChatEvents
  log: Log
}

interface Settings {
  queue: QueueLimits
  options: OptionLimits
  leaseMs: number
}

/** Constructs the generation engine; `start` of what it returns begins the work. */
export function createEngine(services: Services, settings: Settings): Generations {
  const { store, cache, client, catalogue, chatEvents, log } = services
  const { streamLog, slots } = services.shared ?? {}
  const limits = settings.options
  // A dead server's replies go on within LEASE_MS: the lease ends, and is seen to have ended twice.
  const leaseMs = settings.leaseMs * 0.8
  const pauses = { idleMs: settings.leaseMs, againMs: settings.leaseMs * 0.1 }
  const owner = newId()

  const held = new HeldReplies()
  const state = new ReplyState({ store, cache, streamLog, held, owner, leaseMs })
  const bus = new ClusterBus(cache, owner)
  const publisher = streamLog && new ClusterPublisher(bus, new LogWriter(streamLog), held)
  const cluster = streamLog
    ? new RemoteReplies({ store, chatEvents, bus, streamLog, held, log })
    : noCluster
  const reader = new ReplyReader({ store, held, cluster })
  const stopping = new Stopping({ store, state, chatEvents, streamLog, held, cluster, reader })

  const earlier = new EarlierReplies({ store, held, log })
  const queue = new FairQueue<LiveReply>({
    limits: settings.queue,
    earlier,
    shared: slots && shareSlots(slots, bus, leaseMs / 3),
  })
  const leases = new Leases({ store, held, owner, leaseMs, log })
  const checkpoints = new Checkpoints({ store, held, owner, log })
  const flusher = new Flusher(chatEvents, leases)
  const estimate = new TokenEstimate(cache)
  const windows = new ContextWindows(cache)
  const generator = new ReplyGenerator({
    ...{ store, client, catalogue, estimate, windows, limits, flusher },
    known: new DeterministicReplies(cache),
  })
  const runner = new Runner({
    ...{ store, cache, state, held, queue, generator, flusher, leases },
    ...{ chatEvents, cluster, publisher, log },
  })
  const unconfirmed = new UnconfirmedTurns({ store, held, runner })
  const accept = new Accept({
    ...{ store, state, held, queue, runner, unconfirmed },
    ...{ catalogue, estimate, windows, limits },
  })
  const takeover = new Takeover({
    ...{ store, state, held, runner, catalogue, streamLog, cluster, chatEvents, pauses, log },
  })

  return new Generations({
    ...{ held, queue, earlier, accept, unconfirmed, runner, flusher, leases, checkpoints },
    ...{ takeover, stopping, reader, chatEvents, cluster },
    lookAgainMs: pauses.againMs,
    shared: publisher && { bus, publisher },
  })
}
