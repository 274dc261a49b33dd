import type { ServerEvents } from '../../schemas/events.js'
import type { MessageChunk } from '../../schemas/messages.js'
import type { ChatEventName } from '../reply/chat-events.js'
import type { LiveReply } from '../reply/live-reply.js'
import { backlogOf, type ChatSocket, cutOff } from './chat-socket.js'
import type { EventSender } from './event-sender.js'

/** Past either of these a socket gets no more frames. */
const maxPackets = 32
const maxBytes = 64 * 1024
/** A piece is whole with this: another frame still fits below `maxBytes`. */
const enoughBytes = 16 * 1024
/** How long a socket may lag behind before it is cut off, in milliseconds. */
const patienceMs = 30_000
/**
 * Answers and events other than text that may be owed to a socket: a client that reads may send
 * hundreds of events at once, and more in a second disconnect it as a flood.
 */
const maxOwed = 1000

export interface LiveReplies {
  live(messageId: string): LiveReply | undefined
  liveOfChat(chatId: string): LiveReply[]
}

/** How far a socket got in a running reply: what follows is sliced from the reply's one text. */
interface Cursor {
  epoch: number
  offset: number
  thought: number
}

/** A socket that reads too slowly: what it missed, and how it catches up. */
export class SlowSocket {
  readonly #chats: Set<string>
  readonly #cursors = new Map<string, Cursor>()
  /** What sends each event that is owed, in order; a reply's newer record replaces an older one. */
  readonly #owed = new Map<string, () => void>()
  readonly #since = Date.now()
  #serial = 0

  constructor(
    readonly socket: ChatSocket,
    chats: readonly string[],
    private readonly replies: LiveReplies,
    private readonly sender: EventSender,
  ) {
    this.#chats = new Set(chats)
    // All that was announced until now is in the socket's own queue.
    for (const chatId of chats) {
      for (const reply of replies.liveOfChat(chatId)) this.#cursors.set(reply.id, cursorAt(reply))
    }
  }

  get chats(): string[] {
    return [...this.#chats]
  }

  /** Whether more waits for a socket than it may have waiting. */
  static isBehind(socket: ChatSocket): boolean {
    const { packets, bytes } = backlogOf(socket)
    return packets > maxPackets || bytes > maxBytes
  }

  join(chatId: string): void {
    this.#chats.add(chatId)
    for (const reply of this.replies.liveOfChat(chatId)) {
      this.#cursors.set(reply.id, cursorAt(reply))
    }
  }

  leave(chatId: string): void {
    this.#chats.delete(chatId)
  }

  /** Something was said in a chat; text is not kept here, since its reply keeps it. */
  hear<E extends ChatEventName>(chatId: string, event: E, payload: ServerEvents[E]): void {
    if (!this.#chats.has(chatId)) return
    if (event === 'message-chunk') {
      const { messageId } = payload as MessageChunk
      const reply = this.replies.live(messageId)
      const cursor = this.#cursors.get(messageId)
      if (reply && cursor?.epoch !== reply.epoch) {
        const { epoch } = reply
        this.#cursors.set(messageId, { epoch, offset: reply.row.epochStart, thought: 0 })
      }
      return
    }
    const { id } = payload as { id: string }
    if (event === 'message') this.#cursors.delete(id)
    this.#put(id, () => this.#emit(event, payload))
  }

  /** Something that concerns the user, to be sent once the socket reads. */
  owe(event: keyof ServerEvents, payload: object): void {
    this.oweAnswer(() => this.#emit(event, payload))
  }

  /** The answer to what the socket sent, to be given once it reads. */
  oweAnswer(give: () => void): void {
    this.#put(`#${this.#serial++}`, give)
  }

  /**
   * Sends the next piece if the one before is gone.
   * @returns `caught-up` when nothing is owed any more.
   */
  serve(): 'behind' | 'caught-up' {
    if (!backlogOf(this.socket).isDrained) {
      if (Date.now() - this.#since > patienceMs) cutOff(this.socket)
      return 'behind'
    }
    if (!this.#sendNext()) return 'caught-up'
    // What is small goes together.
    while (backlogOf(this.socket).bytes < enoughBytes && this.#sendNext());
    return 'behind'
  }

  /** @returns false when nothing is owed. */
  #sendNext(): boolean {
    for (const [key, give] of this.#owed) {
      this.#owed.delete(key)
      give()
      return true
    }
    for (const [messageId, cursor] of this.#cursors) {
      const frame = this.#nextFrame(messageId, cursor)
      if (!frame) continue
      this.#emit('message-chunk', frame)
      return true
    }
    return false
  }

  #nextFrame(messageId: string, cursor: Cursor): MessageChunk | undefined {
    const reply = this.replies.live(messageId)
    if (!reply || reply.epoch !== cursor.epoch) return undefined
    if (cursor.thought < reply.thinking.length) {
      const frame = reply.frameFrom(cursor.thought, true)
      cursor.thought += frame.delta.length
      return frame
    }
    if (cursor.offset < reply.text.length) {
      const frame = reply.frameFrom(cursor.offset, false)
      cursor.offset += frame.delta.length
      return frame
    }
    return undefined
  }

  #put(key: string, give: () => void): void {
    this.#owed.delete(key)
    this.#owed.set(key, give)
    if (this.#owed.size > maxOwed) cutOff(this.socket)
  }

  #emit(event: keyof ServerEvents, payload: object): void {
    this.sender.send(this.socket, event, payload)
  }
}

function cursorAt(reply: LiveReply): Cursor {
  return {
    epoch: reply.epoch,
    offset: reply.text.length,
    thought: reply.thinking.length,
  }
}
