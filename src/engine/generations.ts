import { serversChannel } from '../cache/keys.js'
import type { Cluster } from '../cluster/cluster.js'
import type { ClusterBus, ClusterMessage } from '../cluster/cluster-bus.js'
import type { ClusterPublisher } from '../cluster/cluster-publisher.js'
import { AppError } from '../errors.js'
import type { ReplyReader } from '../follow/reply-reader.js'
import type { FairQueue } from '../queue/fair-queue.js'
import type { ChatEvents } from '../reply/chat-events.js'
import type { HeldReplies } from '../reply/held-replies.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { StoredTurn } from '../stores/store.js'
import type { Accept, SendInput } from './accept.js'
import type { Checkpoints } from './checkpoints.js'
import type { EarlierReplies } from './earlier-replies.js'
import type { Flusher } from './flusher.js'
import type { Leases } from './leases.js'
import type { Runner } from './runner.js'
import type { Stopping } from './stopping.js'
import type { Takeover } from './takeover.js'
import type { UnconfirmedTurns } from './unconfirmed-turns.js'

interface Parts {
  held: HeldReplies
  queue: FairQueue<LiveReply>
  earlier: EarlierReplies
  /** How often a server that is alone looks for replies that an earlier process left. */
  lookAgainMs: number
  accept: Accept
  unconfirmed: UnconfirmedTurns
  runner: Runner
  flusher: Flusher
  leases: Leases
  checkpoints: Checkpoints
  takeover: Takeover
  stopping: Stopping
  reader: ReplyReader
  chatEvents: ChatEvents
  cluster: Cluster
  /** The channels between servers, where several are one system. */
  shared: { bus: ClusterBus; publisher: ClusterPublisher } | undefined
}

/** The generation engine as routes and plugins use it; createEngine joins its parts. */
export class Generations {
  /** Reads replies for clients. */
  readonly reader: ReplyReader
  /** Ends replies on request. */
  readonly stopping: Stopping
  /** The other servers, to be listened to. */
  readonly cluster: Pick<Cluster, 'listenToChat' | 'listenToUser'>
  #unsubscribe: (() => Promise<void>) | undefined
  #isClosing = false

  constructor(private readonly parts: Parts) {
    this.reader = parts.reader
    this.stopping = parts.stopping
    this.cluster = parts.cluster
  }

  get counts(): { waiting: number; running: number } {
    const { queue } = this.parts
    return { waiting: queue.waitingCount, running: queue.runningCount }
  }

  /** Starts the timers, and takes over what an earlier process left. */
  async start(): Promise<void> {
    const { leases, checkpoints, takeover, earlier, lookAgainMs, chatEvents, shared } = this.parts
    leases.start()
    checkpoints.start()
    if (shared) {
      chatEvents.listen(shared.publisher)
      this.#unsubscribe = await shared.bus.hear<ClusterMessage>(serversChannel, (message) =>
        this.#hear(message),
      )
    }
    takeover.look()
    if (!shared) await earlier.untilTaken(lookAgainMs)
  }

  /** @throws AppError SHUTTING_DOWN, and as Accept.accept. */
  async send(input: SendInput): Promise<StoredTurn> {
    if (this.#isClosing) throw new AppError('SHUTTING_DOWN')
    return this.parts.accept.accept(input)
  }

  /** Ends what still runs of a deleted chat, on every server; nobody is told. */
  dropChat(chatId: string): void {
    this.parts.cluster.dropChat(chatId)
    this.#dropHeld(chatId)
  }

  /** Ends what still runs here of a deleted user; nobody is told. */
  dropUser(userId: string): void {
    for (const reply of this.parts.held.all()) {
      if (reply.userId === userId) reply.interrupt('lost')
    }
  }

  /** Hands every reply over to the next process, with its text so far. */
  async close(): Promise<void> {
    const { reader, queue, held, runner, earlier, takeover, shared } = this.parts
    this.#isClosing = true
    reader.close()
    queue.pause()
    const hadReplies = held.all().length > 0
    runner.close()
    earlier.close()
    await takeover.close()
    // Takeover may have claimed some meanwhile.
    await Promise.all(held.all().map((reply) => reply.end))
    if (hadReplies) shared?.bus.tell(serversChannel, { handedOver: true } satisfies ClusterMessage)
    this.parts.leases.stop()
    await this.parts.checkpoints.close()
    this.parts.flusher.close()
    shared?.publisher.close()
    this.parts.unconfirmed.close()
    await this.parts.cluster.close()
    await this.#unsubscribe?.()
  }

  /** Does what another server asks for. */
  #hear(message: ClusterMessage): void {
    const { held, queue, takeover, shared } = this.parts
    if ('watch' in message) void shared?.publisher.watch(message.watch)
    else if ('dropChat' in message) this.#dropHeld(message.dropChat)
    else if ('freed' in message) queue.retry()
    else if ('handedOver' in message) takeover.look()
    else held.get(message.stop)?.interrupt('stopped')
  }

  #dropHeld(chatId: string): void {
    this.parts.chatEvents.chatGone(chatId)
    for (const reply of this.parts.held.ofChat(chatId)) reply.interrupt('lost')
  }
}
