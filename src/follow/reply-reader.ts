import { setTimeout as delay } from 'node:timers/promises'
import type { ActiveReply } from '../../schemas/events.js'
import type { Cluster } from '../cluster/cluster.js'
import { AppError } from '../errors.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { RecentlyEnded } from '../reply/recently-ended.js'
import { hasEnded } from '../reply/reply-state.js'
import type { MessageRow, Store } from '../stores/store.js'
import { followEnded, followLive, type Position, resumeOffset, type StreamEvent } from './follow.js'

/** How often a reply that no process here holds is looked up again, in milliseconds. */
const lookAgainMs = 500

/** What clients are given of a chat's replies, wherever these run: what they missed, what comes, the end. */
export class ReplyReader {
  #closing = false

  constructor(
    private readonly store: Store,
    /** The replies that this process holds. */
    private readonly held: ReadonlyMap<string, LiveReply>,
    private readonly cluster: Cluster,
    private readonly recentlyEnded: RecentlyEnded,
  ) {}

  /** A reply that runs or waits, here or, where somebody here listens to its chat, elsewhere. */
  live(messageId: string): LiveReply | undefined {
    return this.held.get(messageId) ?? this.cluster.live(messageId)
  }

  /** The live replies of a chat. */
  liveOfChat(chatId: string): LiveReply[] {
    const here = [...this.held.values()].filter((reply) => reply.chatId === chatId && !reply.isOver)
    return [...here, ...this.cluster.liveOfChat(chatId)]
  }

  /**
   * A message of a user's chat.
   * @throws AppError MESSAGE_NOT_FOUND.
   */
  async find(userId: string, chatId: string, messageId: string): Promise<MessageRow> {
    // A reply that runs here need not be read, with all its text, by each who rejoins it.
    const held = this.held.get(messageId)
    const isOwn = held?.userId === userId && held.chatId === chatId
    // Of one that was given up, such as when its chat was deleted, only the store knows.
    if (isOwn && !held.isOver && !held.isGivenUp) return held.row
    const row = await this.store.findMessage(userId, chatId, messageId)
    if (!row) throw new AppError('MESSAGE_NOT_FOUND')
    return row
  }

  /** A message as it is now: a running reply with its text so far. @throws as `find`. */
  async read(userId: string, chatId: string, messageId: string): Promise<MessageRow> {
    const row = await this.find(userId, chatId, messageId)
    const reply = hasEnded(row) ? undefined : this.live(messageId)
    if (!reply) return row
    const thinking = reply.thinking.slice(0)
    return { ...reply.row, content: reply.text.slice(0), ...(thinking && { thinking }) }
  }

  /**
   * What a client that joins a chat is given: the replies that have not ended, and the one it asks
   * for even when it has.
   * @returns a look, to be taken in the same turn of the loop in which the client begins to hear
   *   frames: what it answers and what then comes neither overlap nor leave a gap.
   * @throws AppError MESSAGE_NOT_FOUND when the one asked for is not in the chat.
   */
  async activeReplies(
    userId: string,
    chatId: string,
    asked: { messageId?: string | undefined } & Position,
  ): Promise<() => ActiveReply[]> {
    const { messageId } = asked
    await this.cluster.refresh(chatId)
    const stored = await this.store.listActiveReplies(chatId)
    const wanted = messageId ? await this.find(userId, chatId, messageId) : undefined
    return () => {
      const rows = new Map(stored.map((row) => [row.id, row]))
      for (const reply of this.liveOfChat(chatId)) rows.set(reply.id, reply.row)
      if (wanted?.role === 'assistant') rows.set(wanted.id, rows.get(wanted.id) ?? wanted)
      return [...rows.values()]
        .map((row) => this.recentlyEnded.find(row.id) ?? row)
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
    const row = await this.find(userId, chatId, messageId)
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
      const row = (await this.live(id)?.end) ?? (await this.find(userId, chatId, id))
      if (hasEnded(row)) return row
      if (this.#closing) throw new AppError('SHUTTING_DOWN', { replyId: id })
      signal.throwIfAborted()
      await delay(lookAgainMs, undefined, { ref: false })
    }
  }

  /** Ends the streams that are open. */
  close(): void {
    this.#closing = true
  }

  async *#follow(
    row: MessageRow,
    position: Position,
    signal: AbortSignal,
  ): AsyncGenerator<StreamEvent> {
    let from = position
    const leave = await this.cluster.listenToChat(row.chatId)
    try {
      while (!signal.aborted && !this.#closing) {
        await this.cluster.refresh(row.chatId)
        const reply = this.live(row.id)
        if (reply) {
          for await (const event of followLive(reply, from, signal)) {
            yield event
            if (event.event === 'message') return
            const offset = Number(event.id.slice(event.id.lastIndexOf(':') + 1))
            from = { epoch: reply.epoch, offset }
          }
        }
        const found = await this.store.findMessage(row.userId, row.chatId, row.id)
        if (!found) return
        if (hasEnded(found)) return yield* followEnded(found, from)
        if (!this.live(row.id) && !this.#closing) {
          await delay(lookAgainMs, undefined, { ref: false })
        }
      }
    } finally {
      leave?.()
    }
  }

  #activeReply(row: MessageRow, position: Position): ActiveReply {
    const reply = hasEnded(row) ? undefined : this.live(row.id)
    const content = reply?.text ?? row.content
    const thinking = reply ? reply.thinking.slice(0) : row.thinking
    const offset = resumeOffset(row, content, position)
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
}
