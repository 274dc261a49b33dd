import { setTimeout as delay } from 'node:timers/promises'
import type { StreamLog } from '../cache/stream-log.js'
import type { Cluster } from '../cluster/cluster.js'
import { AppError } from '../errors.js'
import type { ReplyReader } from '../follow/reply-reader.js'
import type { ChatEvents } from '../reply/chat-events.js'
import { keptText } from '../reply/kept-text.js'
import type { LiveReply } from '../reply/live-reply.js'
import { presentMessage } from '../reply/present.js'
import { hasEnded, type ReplyState } from '../reply/reply-state.js'
import type { MessageRow, Store } from '../stores/store.js'
import { within } from '../within.js'

/** How long a stop waits for its reply's end to be stored, in milliseconds. */
const stopTimeoutMs = 5000
/** So often a reply may change hands while it is being stopped. */
const maxHands = 4
/** How long the store's answer may take that has this process hold a reply, in milliseconds. */
const takingUpMs = 1000
const lookAgainMs = 10

interface Parts {
  store: Store
  state: ReplyState
  chatEvents: ChatEvents
  log: StreamLog | undefined
  /** Every reply that this process holds. */
  held: ReadonlyMap<string, LiveReply>
  cluster: Pick<Cluster, 'stop'>
  reader: Pick<ReplyReader, 'find'>
  interrupt: (reply: LiveReply) => void
}

/** Ends replies on request, wherever they run, and answers once their ends are stored. */
export class Stopping {
  constructor(private readonly parts: Parts) {}

  /**
   * Stops a reply.
   * @returns the record as it ended: stopped, or as it was when it had ended before.
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

  /** Stops every reply of a user, wherever it runs; resolves when their ends are stored. */
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
      const ended = await this.#stopWhoHas(current)
      if (ended) return ended
      // It is gone, or changed hands meanwhile: whoever has it now is asked.
      current = await this.parts.store.findMessage(userId, chatId, id)
    }
    return current
  }

  /** @returns the record as it ended; undefined when it is gone, or another has it since. */
  async #stopWhoHas(row: MessageRow): Promise<MessageRow | undefined> {
    const { store, state, chatEvents, log, held, cluster, interrupt } = this.parts
    const reply = held.get(row.id)
    if (reply) {
      interrupt(reply)
      const ended = await within(reply.end, stopTimeoutMs)
      if (ended) return ended
      if (!reply.isOver) throw new AppError('STORE_UNAVAILABLE')
    }
    await cluster.stop(row)
    const left = await store.findMessage(row.userId, row.chatId, row.id)
    if (!left || hasEnded(left)) return left
    if (left.owner !== row.owner || left.epoch !== row.epoch) return undefined
    if (left.owner === state.owner && (await this.#isTakenUp(row.id))) return undefined
    // Nobody runs it, or who does cannot be told: it will find that the reply is not its own.
    const text = await keptText(left, log)
    const ended = await state.end(left, { status: 'stopped', text }, left.owner ?? null)
    if (ended) chatEvents.toChat(row.chatId, 'message', presentMessage(ended))
    return ended
  }

  /** Whether this process holds a reply as soon as it hears that it is stored in its name. */
  async #isTakenUp(messageId: string): Promise<boolean> {
    const deadline = Date.now() + takingUpMs
    while (!this.parts.held.has(messageId) && Date.now() < deadline) await delay(lookAgainMs)
    return this.parts.held.has(messageId)
  }
}
