import type { Cache } from '../cache/cache.js'
import { chatsState } from '../cache/keys.js'
import { forget } from '../cache/read-through.js'
import type { Cluster } from '../cluster/cluster.js'
import type { ClusterPublisher } from '../cluster/cluster-publisher.js'
import { AppError } from '../errors.js'
import type { Log } from '../logging.js'
import { Outage } from '../outage.js'
import type { FairQueue, Reservation } from '../queue/fair-queue.js'
import type { ChatEvents } from '../reply/chat-events.js'
import type { HeldReplies } from '../reply/held-replies.js'
import { hasEnded, LiveReply } from '../reply/live-reply.js'
import { presentMessage, presentStart } from '../reply/present.js'
import type { Outcome, ReplyState } from '../reply/reply-state.js'
import { retry } from '../retry.js'
import type { ChatRow, MessageRow, Store, StoredTurn } from '../stores/store.js'
import type { Flusher } from './flusher.js'
import type { Leases } from './leases.js'
import { maxReplyUnits, type ReplyGenerator, untilStoreAnswers } from './reply-generator.js'

/** Between tries to store a reply's end, in milliseconds. */
const storeRetryMs = { first: 100, longest: 2000 }

const overlong = {
  code: 'MODEL_FAILED',
  message: `The model did not end its reply within ${maxReplyUnits} characters: set options.num_predict.`,
}

interface Parts {
  store: Pick<Store, 'findMessage'>
  cache: Cache
  state: ReplyState
  held: HeldReplies
  queue: FairQueue<LiveReply>
  generator: ReplyGenerator
  flusher: Flusher
  leases: Pick<Leases, 'valid'>
  chatEvents: ChatEvents
  cluster: Pick<Cluster, 'forget' | 'refresh'>
  publisher: ClusterPublisher | undefined
  log: Log
}

/** Takes a reply through its life in this process: held, queued, generated, ended, released. */
export class Runner {
  #isClosing = false
  readonly #outage: Outage

  constructor(private readonly parts: Parts) {
    this.#outage = new Outage(parts.log, {
      failing: 'the end of a reply could not be stored; trying again until the database takes it',
      over: 'ends of replies are stored again',
    })
  }

  /**
   * Tells of a turn that was stored in this process's name and holds its reply, unless that was done.
   * @param reservation the reply's room in the queue, if this call stored the turn.
   */
  takeUp(
    { message, reply, chat }: Pick<StoredTurn, 'message' | 'reply'> & { chat?: ChatRow },
    reservation?: Reservation,
  ): void {
    const { cache, chatEvents, held, state } = this.parts
    if (hasEnded(reply) || reply.owner !== state.owner) return
    if (held.has(reply.id) || chatEvents.isGone(message.chatId)) return
    // A found turn may have been read before its reply ended here.
    const isOver = held.findEnded(reply.id) !== undefined
    if (isOver && !reservation) return
    void forget(cache, chatsState(reply.userId))
    chatEvents.toChat(message.chatId, 'message', presentMessage(message))
    // A new reply may have been stopped before its turn was known to be stored.
    if (isOver) return
    const begins = reservation?.hasSlot && chat
    this.hold(begins ? LiveReply.begun(reply, chat) : LiveReply.queued(reply), reservation)
  }

  /** Holds a reply until it has ended, is lost or is handed over. */
  hold(reply: LiveReply, reservation?: Reservation): void {
    const { held, cluster, publisher } = this.parts
    if (held.has(reply.id)) return
    held.hold(reply)
    cluster.forget(reply.id)
    publisher?.begin(reply)
    if (this.#isClosing) reply.interrupt('released')
    void this.#run(reply, reservation)
  }

  /** Hands every reply over to the next process, with its text so far. */
  close(): void {
    this.#isClosing = true
    for (const reply of this.parts.held.all()) reply.interrupt('released')
  }

  async #run(reply: LiveReply, reservation: Reservation | undefined): Promise<void> {
    const { queue, held, publisher } = this.parts
    const turn = queue.turn(reply, reservation)
    void this.#tellPositions(reply)
    const hasSlot = await turn
    if (hasSlot) await this.#generate(reply)
    else await this.#endInterrupted(reply)
    held.release(reply)
    void publisher?.end(reply)
    if (hasSlot) queue.done(reply)
    if (reply.interruption === 'lost') this.#followElsewhere(reply)
  }

  /** Tells the chat where a waiting reply stands, at each change. */
  async #tellPositions(reply: LiveReply): Promise<void> {
    const { chatEvents, leases } = this.parts
    while (reply.position && !reply.isOver && !reply.signal.aborted) {
      const start = presentStart(reply.row, reply.position)
      if (leases.valid) chatEvents.toChat(reply.chatId, 'message-start', start)
      await reply.changed(reply.signal)
    }
  }

  /** Generates a reply whose turn has come, and ends it. */
  async #generate(reply: LiveReply): Promise<void> {
    const { state, chatEvents, generator, log } = this.parts
    let outcome: Outcome
    try {
      const begun = reply.begunIn
        ? reply.row
        : await untilStoreAnswers(reply, () => state.begin(reply.row))
      if (!begun) return reply.finish(undefined)
      reply.begin(begun)
      chatEvents.toChat(reply.chatId, 'message-start', presentStart(begun))
      reply.signal.throwIfAborted()
      outcome = { status: 'complete', ...(await generator.generate(reply)) }
    } catch (error) {
      if (reply.interruption) return this.#endInterrupted(reply)
      const fault = error instanceof AppError ? error : new AppError('INTERNAL', { cause: error })
      const level = fault.code === 'INTERNAL' ? 'error' : 'info'
      log[level]({ err: error, replyId: reply.id }, 'a reply failed')
      outcome = { status: 'error', error: { code: fault.code, message: fault.message } }
    }
    await this.#end(reply, outcome)
  }

  async #endInterrupted(reply: LiveReply): Promise<void> {
    switch (reply.interruption) {
      case 'stopped':
        return this.#end(reply, { status: 'stopped' })
      case 'overlong':
        return this.#end(reply, { status: 'error', error: overlong })
      case 'released':
        return this.#release(reply)
      case 'lost':
        return this.#drop(reply)
    }
  }

  /**
   * Ends a reply: the end is stored, then told with the text that is still pending. While the store
   * is away it is asked until it answers, so that nothing that was generated is lost.
   */
  async #end(reply: LiveReply, outcome: Outcome): Promise<void> {
    const { chatEvents, flusher, log } = this.parts
    reply.isEnding = true
    const text = { content: reply.text.whole, thinking: reply.thinking.whole }
    const end = { ...outcome, completedAt: new Date(), text }
    let ended: MessageRow | undefined
    try {
      ended = await retry((tries) => this.#storeEnd(reply, end, tries > 0), {
        pauses: storeRetryMs,
        mayRetry: (error) => {
          this.#outage.failed(error, { replyId: reply.id })
          return !reply.isGivenUp
        },
      })
      this.#outage.over()
    } catch {
      // It was handed over or lost meanwhile: the next process finds the last checkpoint.
    }
    if (!ended) return this.#drop(reply)
    flusher.announce(reply)
    chatEvents.toChat(reply.chatId, 'message', presentMessage(ended))
    const { id: replyId, chatId } = reply
    log.info({ replyId, chatId, status: ended.status, epoch: ended.epoch }, 'reply ended')
    reply.finish(ended)
  }

  /** @returns the ended record; undefined when this process does not hold the reply any more. */
  async #storeEnd(
    { row }: LiveReply,
    end: Outcome & { completedAt: Date },
    isRetry: boolean,
  ): Promise<MessageRow | undefined> {
    const { store, state } = this.parts
    const ended = await state.end(row, end, state.owner)
    if (ended || !isRetry) return ended
    // An earlier try may have been stored, its answer lost.
    const stored = await store.findMessage(row.userId, row.chatId, row.id)
    const isOwn = stored?.completedAt?.getTime() === end.completedAt.getTime()
    return isOwn && stored.epoch === row.epoch ? stored : undefined
  }

  async #release(reply: LiveReply): Promise<void> {
    const { state, flusher, log } = this.parts
    flusher.announce(reply)
    try {
      await state.release(reply.row, reply.kept)
    } catch (error) {
      log.error(
        { err: error, replyId: reply.id },
        'a reply could not be handed over; another server takes it over when its lease ends',
      )
    }
    reply.finish(undefined)
  }

  #drop(reply: LiveReply): void {
    this.parts.flusher.forget(reply)
    reply.finish(undefined)
  }

  /** Has clients of this server hear a lost reply from the server that has it now. */
  #followElsewhere({ id: replyId, chatId }: LiveReply): void {
    this.parts.cluster
      .refresh(chatId)
      .catch((error: unknown) =>
        this.parts.log.warn(
          { err: error, replyId },
          'a reply that another server took over could not be followed; trying again in 1 s',
        ),
      )
  }
}
