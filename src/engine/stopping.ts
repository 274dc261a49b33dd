import { setTimeout as delay } from 'node:timers/promises'
import type { StreamLog } from '../cache/stream-log.js'
import type { Cluster } from '../cluster/cluster.js'
import { AppError } from '../errors.js'
import type { ReplyReader } from '../follow/reply-reader.js'
import type { ChatEvents } from '../reply/chat-events.js'
import type { HeldReplies } from '../reply/held-replies.js'
import { hasEnded } from '../reply/live-reply.js'
import { presentMessage } from '../reply/present.js'
import { keptText, type ReplyState } from '../reply/reply-state.js'
import type { MessageRow, Store } from '../stores/store.js'
import { within } from '../within.js'

/** How long a stop waits for its reply's end to be stored, in milliseconds. */
const stopTimeoutMs = 5000
/** How often a reply may change hands while it is being stopped. */
const maxHands = 4
/** How long to wait for our own insert to be acknowledged, in milliseconds. */
const takingUpMs = 1000
const lookAgainMs = 10

interface Parts {
  store: Store
  state: ReplyState
  chatEvents: ChatEvents
  streamLog: StreamLog | undefined
  held: HeldReplies
  cluster: Pick<Cluster, 'stop' | 'forget'>
  reader: Pick<ReplyReader, 'find'>
}

/** Ends replies on request, wherever they run, and answers once their ends are stored. */
export class Stopping {
  constructor(private readonly parts: Parts) {}

  /**
   * Stops a reply.
   * @returns the record as it ended; one that had ended before, as it is.
   * @throws AppError MESSAGE_NOT_FOUND, or STORE_UNAVAILABLE when its end could not be stored.
   */
  async stop(userId: string, chatId: string, messageId: string): Promise<MessageRow> {
    const ended = await this.#stop(await this.parts.reader.find(userId, chatId, messageId))
    if (!ended) throw new AppError('MESSAGE_NOT_FOUND')
    return ended
  }

  /** Stops every reply of a chat; resolves when their ends are stored. */
  async stopChat(chatId: string): Promise<void> {
    await this.#stopAll(await this.parts.store.listActiveReplies(chatId))
  }

  /** Stops every reply of a user; resolves when their ends are stored. */
  async stopUser(userId: string): Promise<void> {
    await this.#stopAll(await this.parts.store.listActiveRepliesOf(userId))
  }

  async #stopAll(rows: readonly MessageRow[]): Promise<void> {
    await Promise.all(rows.map((row) => this.#stop(row)))
  }

  /** @returns the record as it ended; undefined when it is gone. */
  async #stop(row: MessageRow): Promise<MessageRow | undefined> {
    const { userId, chatId, id } = row
    let current: MessageRow | undefined = row
    for (let hands = 0; current && !hasEnded(current); hands++) {
      if (hands === maxHands) throw new AppError('STORE_UNAVAILABLE')
      const ended = await this.#stopAtHolder(current)
      if (ended) return ended
      // It is gone, or another process has taken it over meanwhile.
      current = await this.parts.store.findMessage(userId, chatId, id)
    }
    return current
  }

  /** @returns the record as it ended; undefined when it is gone, or has another holder by now. */
  async #stopAtHolder(row: MessageRow): Promise<MessageRow | undefined> {
    const { store, state, chatEvents, streamLog, held, cluster } = this.parts
    const reply = held.get(row.id)
    if (reply) {
      reply.interrupt('stopped')
      const ended = await within(reply.end, stopTimeoutMs)
      if (ended) return ended
      if (!reply.isOver) throw new AppError('STORE_UNAVAILABLE')
    }
    await cluster.stop(row)
    const left = await store.findMessage(row.userId, row.chatId, row.id)
    if (!left || hasEnded(left)) return left
    if (left.owner !== row.owner || left.epoch !== row.epoch) return undefined
    if (left.owner === state.owner && (await this.#isTakenUp(row.id))) return undefined
    // Its holder is dead or cannot be reached; if it lives, its next write finds the reply ended.
    const text = await keptText(left, streamLog)
    const ended = await state.end(left, { status: 'stopped', text }, left.owner ?? null)
    if (!ended) return undefined
    cluster.forget(row.id)
    chatEvents.toChat(row.chatId, 'message', presentMessage(ended))
    return ended
  }

  /** Waits a moment for a reply that this process is storing. @returns whether it holds it now. */
  async #isTakenUp(messageId: string): Promise<boolean> {
    const deadline = Date.now() + takingUpMs
    while (!this.parts.held.has(messageId) && Date.now() < deadline) await delay(lookAgainMs)
    return this.parts.held.has(messageId)
  }
}
