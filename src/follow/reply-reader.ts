import { setTimeout as delay } from 'node:timers/promises'
import type { ActiveReply } from '../../schemas/events.js'
import type { Cluster } from '../cluster/cluster.js'
import { AppError } from '../errors.js'
import type { HeldReplies } from '../reply/held-replies.js'
import { hasEnded, type LiveReply } from '../reply/live-reply.js'
import type { MessageRow, Store } from '../stores/store.js'
import { followEnded, followLive, type Position, resumeOffset, type StreamEvent } from './follow.js'

/** How often a reply that no process here holds is looked up again, in milliseconds. */
const lookAgainMs = 500

interface Parts {
  store: Pick<Store, 'findMessage' | 'listActiveReplies'>
  held: HeldReplies
  cluster: Cluster
}

/** Gives clients the replies of a chat, wherever they run: what was missed, what comes, the end. */
export class ReplyReader {
  #isClosing = false

  constructor(private readonly parts: Parts) {}

  /** A running or waiting reply: of this server, or of another if its chat is listened to here. */
  live(messageId: string): LiveReply | undefined {
    return this.parts.held.get(messageId) ?? this.parts.cluster.live(messageId)
  }

  /** The live replies of a chat. */
  liveOfChat(chatId: string): LiveReply[] {
    const { held, cluster } = this.parts
    return [...held.ofChat(chatId), ...cluster.liveOfChat(chatId)]
  }

  /**
   * A message of a user's chat.
   * @throws AppError MESSAGE_NOT_FOUND.
   */
  async find(userId: string, chatId: string, messageId: string): Promise<MessageRow> {
    // Rejoining a reply that runs here reads nothing from the store.
    const held = this.parts.held.get(messageId)
    const isOwn = held?.userId === userId && held.chatId === chatId
    // One that was lost may have been deleted, which the store knows.
    if (isOwn && !held.isOver && !held.isGivenUp) return held.row
    const row = await this.parts.store.findMessage(userId, chatId, messageId)
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
   * Finds the replies for a client that joins a chat: those that have not ended, and the one that it
   * asks for.
   * @returns a function to call in the turn of the loop in which the client begins to hear frames, so
   *   that its answer and the frames neither overlap nor leave a gap.
   * @throws AppError MESSAGE_NOT_FOUND when the one asked for is not in the chat.
   */
  async activeReplies(
    userId: string,
    chatId: string,
    asked: { messageId?: string | undefined } & Position,
  ): Promise<() => ActiveReply[]> {
    const { messageId } = asked
    await this.parts.cluster.refresh(chatId)
    const stored = await this.parts.store.listActiveReplies(chatId)
    const wanted = messageId ? await this.find(userId, chatId, messageId) : undefined
    return () => {
      const rows = new Map(stored.map((row) => [row.id, row]))
      for (const reply of this.liveOfChat(chatId)) rows.set(reply.id, reply.row)
      if (wanted?.role === 'assistant') rows.set(wanted.id, rows.get(wanted.id) ?? wanted)
      return [...rows.values()]
        .map((row) => this.parts.held.findEnded(row.id) ?? row)
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
      if (this.#isClosing) throw new AppError('SHUTTING_DOWN', { replyId: id })
      signal.throwIfAborted()
      await delay(lookAgainMs, undefined, { ref: false })
    }
  }

  /** Ends the streams that are open. */
  close(): void {
    this.#isClosing = true
  }

  async *#follow(
    row: MessageRow,
    position: Position,
    signal: AbortSignal,
  ): AsyncGenerator<StreamEvent> {
    let from = position
    const leave = await this.parts.cluster.listenToChat(row.chatId)
    try {
      while (!signal.aborted && !this.#isClosing) {
        await this.parts.cluster.refresh(row.chatId)
        const reply = this.live(row.id)
        if (reply) {
          for await (const event of followLive(reply, from, signal)) {
            yield event
            if (event.event === 'message') return
            const offset = Number(event.id.slice(event.id.lastIndexOf(':') + 1))
            from = { epoch: reply.epoch, offset }
          }
        }
        const found = await this.parts.store.findMessage(row.userId, row.chatId, row.id)
        if (!found) return
        if (hasEnded(found)) return yield* followEnded(found, from)
        if (!this.live(row.id) && !this.#isClosing) {
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
      ...(reply?.position && { position: reply.position.position }),
    }
  }
}
