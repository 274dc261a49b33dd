import type { Cache } from '../cache/cache.js'
import { chatsState, serversChannel } from '../cache/keys.js'
import { forget } from '../cache/read-through.js'
import type { Slots } from '../cache/slots.js'
import type { StreamLog } from '../cache/stream-log.js'
import { type Cluster, noCluster } from '../cluster/cluster.js'
import { ClusterBus } from '../cluster/cluster-bus.js'
import { ClusterPublisher } from '../cluster/cluster-publisher.js'
import { LogWriter } from '../cluster/log-writer.js'
import { type ClusterMessage, RemoteReplies } from '../cluster/remote-replies.js'
import { shareSlots } from '../cluster/shared-slots.js'
import { AppError } from '../errors.js'
import { ReplyReader } from '../follow/reply-reader.js'
import { newId } from '../ids.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import type { OllamaClient } from '../ollama/client.js'
import { ContextWindows } from '../prompt/context-windows.js'
import { DeterministicReplies } from '../prompt/deterministic.js'
import type { OptionLimits } from '../prompt/option-limits.js'
import { TokenEstimate } from '../prompt/token-estimate.js'
import { EarlierReplies } from '../queue/earlier-replies.js'
import { FairQueue, type QueuePosition, type Reservation } from '../queue/fair-queue.js'
import type { ChatEvents } from '../reply/chat-events.js'
import { type Interruption, LiveReply } from '../reply/live-reply.js'
import { presentMessage, presentStart } from '../reply/present.js'
import { RecentlyEnded } from '../reply/recently-ended.js'
import { hasEnded, ReplyState } from '../reply/reply-state.js'
import type { ChatRow, MessageRow, Store, StoredTurn } from '../stores/store.js'
import { Accept, type SendInput } from './accept.js'
import { Checkpoints } from './checkpoints.js'
import { Flusher } from './flusher.js'
import { Leases } from './leases.js'
import { Runner } from './runner.js'
import { Stopping } from './stopping.js'
import { Takeover } from './takeover.js'
import { UnconfirmedTurns } from './unconfirmed-turns.js'

interface Log {
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

export interface GenerationSettings {
  maxConcurrent: number
  userMaxConcurrent: number
  queueMax: number
  userQueueMax: number
  leaseMs: number
  limits: OptionLimits
}

interface Services {
  store: Store
  cache: Cache
  /** What several servers share to be one system. */
  shared?: { streamLog: StreamLog; slots: Slots } | undefined
  client: OllamaClient
  catalogue: ModelCatalogue
  chatEvents: ChatEvents
  log: Log
}

/**
 * The generation engine: replies are accepted, queued, run, kept, followed, stopped and taken over.
 * Each of these is a module of its own; this one joins them.
 */
export class Generations {
  /** Every reply that this process holds, waiting or running. */
  readonly #held = new Map<string, LiveReply>()
  readonly #recentlyEnded = new RecentlyEnded()
  /** What clients are given of the replies. */
  readonly reader: ReplyReader
  /** What ends them on request. */
  readonly stopping: Stopping
  readonly #services: Services
  readonly #state: ReplyState
  readonly #earlier: EarlierReplies
  readonly #queue: FairQueue<LiveReply>
  readonly #flusher: Flusher
  readonly #leases: Leases
  readonly #checkpoints: Checkpoints
  readonly #takeover: Takeover
  readonly #runner: Runner
  readonly #accept: Accept
  readonly #unconfirmed: UnconfirmedTurns
  readonly #lookAgainMs: number
  readonly #publisher: ClusterPublisher | undefined
  readonly #logWriter: LogWriter | undefined
  readonly #cluster: Cluster
  readonly #bus: ClusterBus | undefined
  #leave: (() => Promise<void>) | undefined
  #closing = false

  constructor(services: Services, settings: GenerationSettings) {
    const { store, cache, client, catalogue, chatEvents, log } = services
    const { maxConcurrent, userMaxConcurrent, queueMax, userQueueMax, limits } = settings
    // A dead server's replies go on within LEASE_MS: the lease ends, and is seen to have ended twice.
    const leaseMs = settings.leaseMs * 0.8
    const pauses = { idleMs: settings.leaseMs, againMs: settings.leaseMs * 0.1 }
    this.#lookAgainMs = pauses.againMs
    this.#services = services
    const state = new ReplyState(store, newId(), leaseMs, (row) => this.#noteMove(row))
    const estimate = new TokenEstimate(cache)
    const windows = new ContextWindows(cache)
    this.#state = state
    const { shared } = services
    this.#cluster = noCluster
    if (shared) {
      const bus = new ClusterBus(cache, state.owner)
      this.#logWriter = new LogWriter(shared.streamLog)
      this.#publisher = new ClusterPublisher(bus, this.#logWriter, this.#held)
      this.#cluster = new RemoteReplies({
        store,
        chatEvents,
        bus,
        log: shared.streamLog,
        held: this.#held,
        recentlyEnded: this.#recentlyEnded,
        warnings: log,
      })
      this.#bus = bus
    }
    this.reader = new ReplyReader(store, this.#held, this.#cluster, this.#recentlyEnded)
    this.stopping = new Stopping({
      store,
      state,
      chatEvents,
      log: shared?.streamLog,
      held: this.#held,
      cluster: this.#cluster,
      reader: this.reader,
      interrupt: (reply) => this.#interrupt(reply, 'stopped'),
    })
    const isOwn = (id: string) =>
      this.#held.has(id) || this.#accept.isStoring(id) || this.#unconfirmed.hasReply(id)
    this.#earlier = new EarlierReplies(store, isOwn, () => this.#unconfirmed.areThere, log)
    this.#queue = new FairQueue<LiveReply>(
      { maxConcurrent, userMaxConcurrent, maxWaiting: queueMax, userMaxWaiting: userQueueMax },
      (reply) => void this.#run(reply),
      (reply, place) => this.#tellPlace(reply, place),
      this.#earlier,
      shared && this.#bus && shareSlots(shared.slots, this.#bus, leaseMs / 3),
    )
    const held = { store, held: this.#held, owner: state.owner, log }
    const onLost = (reply: LiveReply) => this.#lose(reply)
    this.#leases = new Leases({ ...held, leaseMs, onLost })
    this.#checkpoints = new Checkpoints({ ...held, onLost })
    const flusher = new Flusher(chatEvents, this.#leases)
    this.#flusher = flusher
    const known = new DeterministicReplies(cache)
    this.#runner = new Runner({
      store,
      state,
      chatEvents,
      flusher,
      client,
      catalogue,
      known,
      estimate,
      windows,
      limits,
      log,
    })
    this.#unconfirmed = new UnconfirmedTurns(store, (turn) => this.#holdOwn(turn))
    this.#accept = new Accept(
      store,
      state,
      catalogue,
      estimate,
      windows,
      limits,
      (ticket) => this.#queue.reserve(ticket),
      (...turn) => this.#unconfirmed.add(...turn),
    )
    this.#takeover = new Takeover(
      store,
      state,
      catalogue,
      shared?.streamLog,
      chatEvents,
      isOwn,
      (reply) => this.#hold(reply),
      pauses,
      log,
    )
  }

  get counts(): { waiting: number; running: number } {
    return { waiting: this.#queue.waitingCount, running: this.#queue.runningCount }
  }

  /** The other servers, to be listened to. */
  get cluster(): Pick<Cluster, 'listenToChat' | 'listenToUser'> {
    return this.#cluster
  }

  /** Takes up what a process before this one left unfinished, and begins to keep. */
  async start(): Promise<void> {
    this.#leases.start()
    this.#checkpoints.start()
    if (this.#publisher) this.#services.chatEvents.listen(this.#publisher)
    this.#leave = await this.#bus?.hear<ClusterMessage>(serversChannel, (news) => this.#hear(news))
    this.#takeover.look()
    if (!this.#services.shared) await this.#earlier.untilTaken(this.#lookAgainMs)
  }

  /**
   * Stores a message and its reply's record, and puts the reply into the queue; both are
   * stored when this resolves. The same key gives the same two records.
   * @throws AppError as Accept.accept does, and SHUTTING_DOWN.
   */
  async send(input: SendInput): Promise<StoredTurn> {
    if (this.#closing) throw new AppError('SHUTTING_DOWN')
    const turn = await this.#accept.accept(input, (stored, place) => this.#holdOwn(stored, place))
    // Stored by a call that never heard so from the store.
    this.#holdOwn(turn)
    return turn
  }

  /** Ends what still runs of a chat that is gone; nobody is told. */
  dropChat(chatId: string): void {
    this.#cluster.dropChat(chatId)
    this.#dropHeld(chatId)
  }

  /** Ends what still runs of a user that is gone; nobody is told. */
  dropUser(userId: string): void {
    for (const reply of this.#held.values()) {
      if (reply.userId === userId) this.#interrupt(reply, 'lost')
    }
  }

  /** Hands every reply over to whoever comes next, with its text so far. */
  async close(): Promise<void> {
    this.#closing = true
    this.reader.close()
    this.#queue.pause()
    const hadReplies = this.#held.size > 0
    for (const reply of [...this.#held.values()]) this.#interrupt(reply, 'released')
    this.#earlier.close()
    await this.#takeover.close()
    // With those that were claimed in the meantime.
    await Promise.all([...this.#held.values()].map((reply) => reply.end))
    if (hadReplies) this.#bus?.tell(serversChannel, { handedOver: true } satisfies ClusterMessage)
    this.#leases.stop()
    await this.#checkpoints.close()
    this.#flusher.close()
    this.#logWriter?.close()
    this.#services.shared?.streamLog.stop()
    this.#unconfirmed.close()
    await this.#cluster.close()
    await this.#leave?.()
  }

  /**
   * Takes up a turn that was stored in this process's name, unless it has been.
   * @param place what the queue holds for it.
   */
  #holdOwn(
    turn: Pick<StoredTurn, 'message' | 'reply'> & { chat?: ChatRow },
    place?: Reservation,
  ): void {
    const { message, reply, chat } = turn
    const { chatEvents } = this.#services
    if (hasEnded(reply) || reply.owner !== this.#state.owner) return
    if (this.#held.has(reply.id) || chatEvents.isGone(message.chatId)) return
    // It may have been read before it ended here, or stopped before this process heard of it.
    const isOver = this.#recentlyEnded.find(reply.id) !== undefined
    if (isOver && !place) return
    this.#forgetPages(reply.userId)
    chatEvents.toChat(message.chatId, 'message', presentMessage(message))
    if (isOver) return
    const begins = place?.toRun && chat
    this.#hold(begins ? LiveReply.begun(reply, chat) : LiveReply.queued(reply), place)
  }

  /** This process has claimed or ended a reply, which it need not have held. */
  #noteMove(row: MessageRow): void {
    this.#forgetPages(row.userId)
    if (!hasEnded(row)) return
    // The writer of a reply that is held here closes its log; of any other the holder may be dead.
    if (!this.#held.has(row.id)) void this.#services.shared?.streamLog.close(row.id, row.epoch)
    this.#recentlyEnded.note(row)
    this.#cluster.claimed(row.id)
  }

  /** Pages from before a change, before anybody is told of it. */
  #forgetPages(userId: string): void {
    void forget(this.#services.cache, chatsState(userId))
  }

  #hold(reply: LiveReply, place?: Reservation): void {
    if (this.#held.has(reply.id)) return
    this.#held.set(reply.id, reply)
    this.#cluster.claimed(reply.id)
    this.#logWriter?.begin(reply)
    this.#queue.enqueue(reply, place)
    if (this.#closing) this.#interrupt(reply, 'released')
  }

  #tellPlace(reply: LiveReply, place: QueuePosition): void {
    reply.waitAt(place)
    if (!this.#leases.valid) return
    this.#services.chatEvents.toChat(reply.chatId, 'message-start', presentStart(reply.row, place))
  }

  async #run(reply: LiveReply): Promise<void> {
    await this.#runner.run(reply)
    this.#letGo(reply)
    this.#queue.done(reply)
  }

  /** A reply's run here is over; if it was lost, others may have more to tell. */
  #letGo(reply: LiveReply): void {
    this.#held.delete(reply.id)
    void this.#publisher?.ended(reply)
    this.#recentlyEnded.note(reply.row)
    if (reply.interruption === 'lost') {
      this.#cluster
        .refresh(reply.chatId)
        .catch((error: unknown) =>
          this.#services.log.warn(
            { err: error, replyId: reply.id },
            'a lost reply is not followed',
          ),
        )
    }
  }

  /** What another server asks. */
  #hear(news: ClusterMessage): void {
    if ('watch' in news) void this.#publisher?.watch(news.watch)
    else if ('dropChat' in news) this.#dropHeld(news.dropChat)
    else if ('freed' in news) this.#queue.retry()
    else if ('handedOver' in news) this.#takeover.look()
    else {
      const reply = this.#held.get(news.stop)
      if (reply) this.#interrupt(reply, 'stopped')
    }
  }

  #heldOfChat(chatId: string): LiveReply[] {
    return [...this.#held.values()].filter((reply) => reply.chatId === chatId && !reply.isOver)
  }

  #dropHeld(chatId: string): void {
    this.#services.chatEvents.chatGone(chatId)
    for (const reply of this.#heldOfChat(chatId)) this.#interrupt(reply, 'lost')
  }

  /** Another process has the reply, or it is gone: unless its end is just being stored. */
  #lose(reply: LiveReply): void {
    if (!reply.isOver && !reply.isEnding) this.#interrupt(reply, 'lost')
  }

  /** Ends a reply from outside: at once when it waits, else its run ends it. */
  #interrupt(reply: LiveReply, reason: Interruption): void {
    reply.interrupt(reason)
    if (!this.#queue.leave(reply)) return
    void this.#runner.endWaiting(reply).then(() => this.#letGo(reply))
  }
}
