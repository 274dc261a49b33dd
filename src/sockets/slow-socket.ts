import type { ServerEvents } from '../../schemas/events.js'
import type { Message, MessageChunk } from '../../schemas/messages.js'
import type { ChatEventName, UserEventName } from '../reply/chat-events.js'
import type { LiveReply } from '../reply/live-reply.js'
import { backlogOf, terminate } from './backlog.js'
import type { ChatSocket, EventSink } from './chat-socket.js'

/** Past either of these a socket gets no more frames. */
const maxPackets = 32
const maxBytes = 64 * 1024
/** Stop batching here: one more frame still fits below `maxBytes`. */
const enoughBytes = 16 * 1024
/** How long a socket may lag before it is terminated, in milliseconds. */
const patienceMs = 30_000
/**
 * How many answers and events other than text may be owed: a client that reads may send hundreds of
 * events at once.
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

/** An event to be sent; `record` is a reply's, which many slow sockets may be owed. */
interface Owed {
  give: () => void
  record?: Message
}

/** A socket that reads too slowly: what it missed, and how it catches up. */
export class SlowSocket {
  readonly #chats: Set<string>
  readonly #cursors = new Map<string, Cursor>()
  /** Events that are owed, in order; a reply's newer record replaces an older one. */
  readonly #owed = new Map<string, Owed>()
  readonly #since = Date.now()
  #serial = 0

  constructor(
    readonly socket: ChatSocket & EventSink,
    chats: readonly string[],
    private readonly replies: LiveReplies,
    /** Sends a record to every slow socket whose `takeRecord` gives it up. */
    private readonly sendRecord: (record: Message) => void,
  ) {
    this.#chats = new Set(chats)
    // What was announced until now is in the socket's own queue already.
    for (const chatId of chats) {
      for (const reply of replies.liveOfChat(chatId)) this.#cursors.set(reply.id, cursorAt(reply))
    }
  }

  get chats(): string[] {
    return [...this.#chats]
  }

  /** Whether more waits for a socket than it may have waiting. */
  static isBehind(socket: ChatSocket): boolean {
    const { packets, bytes } = backlogOf(socket.conn)
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

  /** Notes an event of a chat. Text is not kept here, since its reply keeps it. */
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
    if (event === 'message') {
      const record = payload as Message
      this.#cursors.delete(id)
      this.#put(id, { give: () => this.sendRecord(record), record })
    } else this.#put(id, { give: () => this.socket.emit(event, payload) })
  }

  /** Takes a record off what is owed, if it is next. @returns whether it was. */
  takeRecord(record: Message): boolean {
    const [next] = this.#owed
    return next?.[1].record === record && this.#owed.delete(next[0])
  }

  /** Owes the socket an event of its user. */
  owe<E extends UserEventName>(event: E, payload: ServerEvents[E]): void {
    this.oweAnswer(() => this.socket.emit(event, payload))
  }

  /** Owes the socket the answer to an event that it sent. */
  oweAnswer(give: () => void): void {
    this.#put(`#${this.#serial++}`, { give })
  }

  /** Whether all that was sent has left this process. One that lags for too long is terminated. */
  isDrained(): boolean {
    const { isDrained } = backlogOf(this.socket.conn)
    if (!isDrained && Date.now() - this.#since > patienceMs) terminate(this.socket.conn)
    return isDrained
  }

  /** Whether what waits for the socket leaves room for another event. */
  get hasRoom(): boolean {
    return backlogOf(this.socket.conn).bytes < enoughBytes
  }

  /**
   * Sends the next event that is owed, or gives the next frame, which other sockets may be owed too.
   * @returns undefined when nothing is owed any more.
   */
  takeNext(): 'sent' | MessageChunk | undefined {
    for (const [key, { give, record }] of this.#owed) {
      if (!record) this.#owed.delete(key)
      give()
      return 'sent'
    }
    for (const [messageId, cursor] of this.#cursors) {
      const frame = this.#nextFrame(messageId, cursor)
      if (frame) return frame
    }
    return undefined
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

  #put(key: string, owed: Owed): void {
    this.#owed.delete(key)
    this.#owed.set(key, owed)
    if (this.#owed.size > maxOwed) terminate(this.socket.conn)
  }
}

function cursorAt(reply: LiveReply): Cursor {
  return {
    epoch: reply.epoch,
    offset: reply.text.length,
    thought: reply.thinking.length,
  }
}
