import type { MessageRow } from '../stores/store.js'
import { hasEnded, type LiveReply } from './live-reply.js'

/** How long a record that was read before its reply's end may still be in use, in milliseconds. */
const endedMs = 10_000

/** The replies of this process: those it holds, is about to hold, or ended a moment ago. */
export class HeldReplies {
  /** Waiting or running, by id. */
  readonly #replies = new Map<string, LiveReply>()
  readonly #ended = new Map<string, MessageRow>()
  /** Ids of replies whose records are on their way to the store. */
  readonly storing = new Set<string>()
  /** Ids of replies that may be stored: the store's answer was lost. */
  readonly unconfirmed = new Set<string>()

  hold(reply: LiveReply): void {
    this.#replies.set(reply.id, reply)
  }

  release(reply: LiveReply): void {
    this.#replies.delete(reply.id)
    this.noteEnded(reply.row)
  }

  get(messageId: string): LiveReply | undefined {
    return this.#replies.get(messageId)
  }

  has(messageId: string): boolean {
    return this.#replies.has(messageId)
  }

  all(): LiveReply[] {
    return [...this.#replies.values()]
  }

  ofChat(chatId: string): LiveReply[] {
    return this.all().filter((reply) => reply.chatId === chatId && !reply.isOver)
  }

  /** Whether this process holds the reply, or will once its record is stored. */
  isOwn(messageId: string): boolean {
    return this.has(messageId) || this.storing.has(messageId) || this.unconfirmed.has(messageId)
  }

  /** Keeps the record of an ended reply for those who read an older one; others are ignored. */
  noteEnded(row: MessageRow): void {
    if (!hasEnded(row) || this.#ended.has(row.id)) return
    this.#ended.set(row.id, row)
    setTimeout(() => this.#ended.delete(row.id), endedMs).unref()
  }

  /** The record of a reply that ended here a moment ago. */
  findEnded(messageId: string): MessageRow | undefined {
    return this.#ended.get(messageId)
  }
}
