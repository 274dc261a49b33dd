import { setTimeout as delay } from 'node:timers/promises'
import type { ActiveReply } from '../../schemas/events.js'
import type { Cache } from '../cache/cache.js'
import { AppError } from '../errors.js'
import { newId } from '../ids.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import type { OllamaClient } from '../ollama/client.js'
import type { MessageRow, Store, StoredTurn } from '../stores/store.js'
import { within } from '../within.js'
import { Accept, type SendInput } from './accept.js'
import { DeterministicReplies } from './deterministic.js'
import { FairQueue, type Place } from './fair-queue.js'
import { Flusher } from './flusher.js'
import { followEnded, followLive, type Position, resumeOffset, type StreamEvent } from './follow.js'
import type { Hub } from './hub.js'
import { Keeper } from './keeper.js'
import { type Interruption, LiveReply } from './live-reply.js'
import { presentMessage, presentStart } from './present.js'
import { hasEnded, ReplyState } from './reply-state.js'
import { Runner } from './runner.js'
import { Takeover } from './takeover.js'
import { TokenEstimate } from './token-estimate.js'
import { Windows } from './windows.js'

/** How long a stop waits for its reply's end to be stored, in milliseconds. */
const stopTimeoutMs = 5000
/** For how long a reply that ended is remembered: longer than a look at the store takes. */
const endedLatelyMs = 10_000
/** How often a reply that no process here holds is looked up again, in milliseconds. */
const lookAgainMs = 500

interface Log {
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

export interface GenerationSettings {
  maxConcurrent: number
  userMaxConcurrent: number
  queueMax: number
  leaseMs: number
}

interface Services {
  store: Store
  cache: Cache
  client: OllamaClient
  catalogue: ModelCatalogue
  hub: Hub
  log: Log
}

/**
 * The generation engine: replies are accepted, queued, run, kept, followed, stopped and taken over.
 * Each of these is a module of its own; this one joins them.
 */
export class Generations {
  /** Every reply that this process holds, waiting or running. */
  readonly #held = new Map<string, LiveReply>()
  /** Replies that ended here a moment ago: what was read of them before is out of date. */
  readonly #endedLately = new Map<string, MessageRow>()
  readonly #services: Services
  readonly #state: ReplyState
  readonly #queue: FairQueue<LiveReply>
  readonly #flusher: Flusher
  readonly #keeper: Keeper
  readonly #takeover: Takeover
  readonly #runner: Runner
  readonly #accept: Accept
  readonly #leaseMs: number
  #closing = false

  constructor(services: Services, settings: GenerationSettings) {
    const { store, cache, client, catalogue, hub, log } = services
    const { maxConcurrent, userMaxConcurrent, queueMax, leaseMs } = settings
    this.#services = services
    this.#leaseMs = leaseMs
    const state = new ReplyState(store, newId(), leaseMs)
    const estimate = new TokenEstimate()
    const windows = new Windows()
    this.#state = state
    this.#queue = new FairQueue<LiveReply>(
      { maxConcurrent, userMaxConcurrent, maxWaiting: queueMax },
      (reply) => void this.#run(reply),
      (reply, place) => this.#tellPlace(reply, place),
    )
    this.#keeper = new Keeper(
      store,
      state.owner,
      leaseMs,
      this.#held,
      (reply) => this.#interrupt(reply, 'lost'),
      log,
    )
    const flusher = new Flusher(hub, () => this.#keeper.holds())
    this.#flusher = flusher
    const known = new DeterministicReplies(cache)
    this.#runner = new Runner({
      store,
      state,
      hub,
      flusher,
      client,
      catalogue,
      known,
      estimate,
      windows,
      log,
    })
    this.#accept = new Accept(store, state, catalogue, estimate, windows, () =>
      this.#queue.reserve(),
    )
    this.#takeover = new Takeover(
      store,
      state,
      catalogue,
      hub,
      this.#held,
      (reply) => this.#hold(reply),
      log,
    )
  }

  get counts(): { waiting: number; running: number } {
    return { waiting: this.#queue.waitingCount, running: this.#queue.runningCount }
  }

  /** A reply that this process holds. */
  live(messageId: string): LiveReply | undefined {
    return this.#held.get(messageId)
  }

  /** The replies of a chat that this process holds. */
  liveOfChat(chatId: string): LiveReply[] {
    return [...this.#held.values()].filter((reply) => reply.chatId === chatId && !reply.isOver)
  }

  /** Takes up what a process before this one left unfinished, and begins to keep. */
  start(): void {
    this.#keeper.start()
    this.#takeover.start(this.#leaseMs / 2)
  }

  /**
   * Stores a message and its reply's record, and puts the reply into the queue; both are
   * stored when this resolves. The same key gives the same two records.
   * @throws AppError as Accept.accept does, and SHUTTING_DOWN.
   */
  async send(input: SendInput): Promise<StoredTurn> {
    if (this.#closing) throw new AppError('SHUTTING_DOWN')
    const turn = await this.#accept.accept(input, ({ message, reply }) => {
      this.#services.hub.toChat(message.chatId, 'message', presentMessage(message))
      this.#hold(LiveReply.queued(reply))
    })
    // Stored by a call that never heard so from the store: nobody else would run it.
    const { reply } = turn
    if (reply.status === 'queued' && reply.owner === this.#state.owner) {
      this.#hold(LiveReply.queued(reply))
    }
    return turn
  }

  /**
   * Stops a reply, wherever it runs.
   * @returns the record as it ended: stopped, or as it was when it had ended before.
   * @throws AppError MESSAGE_NOT_FOUND.
   */
  async stop(userId: string, chatId: string, messageId: string): Promise<MessageRow> {
    const row = await this.#find(userId, chatId, messageId)
    if (hasEnded(row)) return row
    const reply = this.#held.get(messageId)
    if (reply) {
      this.#interrupt(reply, 'stopped')
      const ended = await within(reply.end, stopTimeoutMs)
      if (ended) return ended
      if (!reply.isOver) throw new AppError('STORE_UNAVAILABLE')
    } else {
      const ended = await this.#stopElsewhere(row)
      if (ended) return ended
    }
    return this.#find(userId, chatId, messageId)
  }

  /** Stops every reply of a chat that this process holds; resolves when their ends are stored. */
  stopChat(chatId: string): Promise<void> {
    return this.#stopAll(this.liveOfChat(chatId))
  }

  /** Ends what still runs of a chat that is gone; nobody is told. */
  dropChat(chatId: string): void {
    for (const reply of this.liveOfChat(chatId)) this.#interrupt(reply, 'lost')
  }

  /** Stops every reply of a user, wherever it runs; resolves when their ends are stored. */
  async stopUser(userId: string): Promise<void> {
    await this.#stopAll(this.#liveOfUser(userId))
    for (const row of await this.#services.store.listActiveRepliesOf(userId)) {
      if (!this.#held.has(row.id)) await this.#stopElsewhere(row)
    }
  }

  /** Ends what still runs of a user that is gone; nobody is told. */
  dropUser(userId: string): void {
    for (const reply of this.#liveOfUser(userId)) this.#interrupt(reply, 'lost')
  }

  /**
   * What a client that joins a chat is given: the replies that have not ended, and the one it asks
   * for even when it has.
   * @returns a look, to be taken in the same turn of the loop in which the client begins to hear
   *   frames: what it answers and what then comes neither overlap nor leave a gap.
   * @throws AppError MESSAGE_NOT_FOUND when the one asked for is not in the chat.
   */
  async look(
    userId: string,
    chatId: string,
    asked: { messageId?: string | undefined } & Position,
  ): Promise<() => ActiveReply[]> {
    const { messageId } = asked
    const stored = await this.#services.store.listActiveReplies(chatId)
    const wanted = messageId ? await this.#find(userId, chatId, messageId) : undefined
    return () => {
      const rows = new Map(stored.map((row) => [row.id, row]))
      for (const reply of this.liveOfChat(chatId)) rows.set(reply.id, reply.row)
      if (wanted?.role === 'assistant') rows.set(wanted.id, rows.get(wanted.id) ?? wanted)
      return [...rows.values()]
        .map((row) => this.#endedLately.get(row.id) ?? row)
        .filter((row) => row.id === messageId || !hasEnded(row))
        .map((row) => this.#activeReply(row, row.id === messageId ? asked : {}))
    }
  }

  /**
   * A reply's stream from a position on, until its end, wherever it runs.
   * @throws AppError MESSAGE_NOT_FOUND, before the stream begins.
   */
  async follow(
    userId: string,
    chatId: string,
    messageId: string,
    position: Position,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<StreamEvent>> {
    const row = await this.#find(userId, chatId, messageId)
    if (row.role !== 'assistant') throw new AppError('MESSAGE_NOT_FOUND')
    return this.#follow(row, position, signal)
  }

  /**
   * The record of a reply once it has ended.
   * @throws AppError SHUTTING_DOWN when this process goes down first, MESSAGE_NOT_FOUND when the
   *   reply is deleted.
   */
  async ended({ userId, chatId, id }: MessageRow, signal: AbortSignal): Promise<MessageRow> {
    for (;;) {
      const row = (await this.#held.get(id)?.end) ?? (await this.#find(userId, chatId, id))
      if (hasEnded(row)) return row
      if (this.#closing) throw new AppError('SHUTTING_DOWN', { replyId: id })
      signal.throwIfAborted()
      await delay(lookAgainMs, undefined, { ref: false })
    }
  }

  /** Hands every reply over to whoever comes next, with its text so far. */
  async close(): Promise<void> {
    this.#closing = true
    this.#queue.pause()
    for (const reply of [...this.#held.values()]) this.#interrupt(reply, 'released')
    await this.#takeover.close()
    // With those that were claimed in the meantime.
    await Promise.all([...this.#held.values()].map((reply) => reply.end))
    await this.#keeper.close()
    this.#flusher.close()
  }

  #liveOfUser(userId: string): LiveReply[] {
    return [...this.#held.values()].filter((reply) => reply.userId === userId && !reply.isOver)
  }

  /** Stops a reply that another process holds, or none: who holds it learns that it has lost it. */
  async #stopElsewhere(row: MessageRow): Promise<MessageRow | undefined> {
    const ended = await this.#state.end(row, { status: 'stopped' })
    if (ended) this.#services.hub.toChat(row.chatId, 'message', presentMessage(ended))
    return ended
  }

  async #stopAll(replies: readonly LiveReply[]): Promise<void> {
    for (const reply of replies) this.#interrupt(reply, 'stopped')
    await within(Promise.all(replies.map((reply) => reply.end)), stopTimeoutMs)
  }

  async *#follow(
    row: MessageRow,
    position: Position,
    signal: AbortSignal,
  ): AsyncGenerator<StreamEvent> {
    let from = position
    while (!signal.aborted && !this.#closing) {
      const reply = this.#held.get(row.id)
      if (reply) {
        for await (const event of followLive(reply, from, signal)) {
          yield event
          if (event.event === 'message') return
          const offset = Number(event.id.slice(event.id.lastIndexOf(':') + 1))
          from = { epoch: reply.epoch, offset }
        }
      }
      const found = await this.#services.store.findMessage(row.userId, row.chatId, row.id)
      if (!found) return
      if (hasEnded(found)) return yield* followEnded(found, from)
      if (!this.#held.has(row.id) && !this.#closing)
        await delay(lookAgainMs, undefined, { ref: false })
    }
  }

  #activeReply(row: MessageRow, position: Position): ActiveReply {
    const reply = hasEnded(row) ? undefined : this.#held.get(row.id)
    const content = reply ? reply.text.announced : row.content
    const thinking = reply ? reply.thinking.announced : row.thinking
    const offset = resumeOffset(row, content.length, position)
    return {
      messageId: row.id,
      epoch: row.epoch,
      status: row.status,
      offset,
      text: content.slice(offset),
      ...(thinking && { thinking }),
      ...(reply?.place && { position: reply.place.position }),
    }
  }

  #hold(reply: LiveReply): void {
    if (this.#held.has(reply.id)) return
    this.#held.set(reply.id, reply)
    this.#queue.enqueue(reply)
    if (this.#closing) this.#interrupt(reply, 'released')
    const place = this.#queue.place(reply)
    if (place) this.#tellPlace(reply, place)
  }

  #tellPlace(reply: LiveReply, place: Place): void {
    if (!this.#keeper.holds()) return
    reply.waitAt(place)
    this.#services.hub.toChat(reply.chatId, 'message-start', presentStart(reply.row, place))
  }

  async #run(reply: LiveReply): Promise<void> {
    await this.#runner.run(reply)
    this.#letGo(reply)
    this.#queue.done(reply)
  }

  #letGo(reply: LiveReply): void {
    this.#held.delete(reply.id)
    if (!hasEnded(reply.row)) return
    this.#endedLately.set(reply.id, reply.row)
    setTimeout(() => this.#endedLately.delete(reply.id), endedLatelyMs).unref()
  }

  /** Ends a reply from outside: at once when it waits, else its run ends it. */
  #interrupt(reply: LiveReply, reason: Interruption): void {
    reply.interrupt(reason)
    if (!this.#queue.leave(reply)) return
    void this.#runner.endWaiting(reply).then(() => this.#letGo(reply))
  }

  async #find(userId: string, chatId: string, messageId: string): Promise<MessageRow> {
    // A reply that runs here need not be read, with all its text, by each who rejoins it.
    const held = this.#held.get(messageId)
    if (held?.userId === userId && held.chatId === chatId && !held.isOver) return held.row
    const row = await this.#services.store.findMessage(userId, chatId, messageId)
    if (!row) throw new AppError('MESSAGE_NOT_FOUND')
    return row
  }
}
