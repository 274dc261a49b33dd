import type { ServerEvents } from '../../schemas/events.js'
import type { MessageChunk } from '../../schemas/messages.js'
import { chatChannel, replyChannel, userChannel } from '../cache/keys.js'
import type {
  ChatEventName,
  ChatEventsListener,
  Origin,
  UserEventName,
} from '../reply/chat-events.js'
import type { HeldReplies } from '../reply/held-replies.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { ClusterBus } from './cluster-bus.js'
import type { LogWriter } from './log-writer.js'

/** For how long a reply's frames are sent after another server asked for them, in milliseconds. */
const watchedMs = 3000

/**
 * Tells other servers what happens here. A reply's frames are sent while another server watches it,
 * and go to the stream log, where servers that come later find them.
 */
export class ClusterPublisher implements ChatEventsListener {
  readonly #watchedUntil = new Map<string, number>()

  constructor(
    private readonly bus: ClusterBus,
    private readonly writer: LogWriter,
    private readonly held: HeldReplies,
  ) {}

  toChat<E extends ChatEventName>(
    chatId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin,
  ): void {
    if (origin === 'peer') return
    if (event === 'message-chunk') this.#frame(payload as MessageChunk)
    else this.bus.tell(chatChannel(chatId), { event, payload })
  }

  toUser<E extends UserEventName>(
    userId: string,
    event: E,
    payload: ServerEvents[E],
    origin: Origin,
  ): void {
    if (origin === 'here') this.bus.tell(userChannel(userId), { event, payload })
  }

  /** This server holds a reply from now on. */
  begin(reply: LiveReply): void {
    this.writer.begin(reply)
  }

  /** Another server watches a reply: it is told how far the text is, and gets frames for a while. */
  async watch(messageId: string): Promise<void> {
    const reply = this.held.get(messageId)
    if (!reply) return
    this.#watchedUntil.set(messageId, Date.now() + watchedMs)
    await this.writer.flush(reply)
    const { chatId, epoch } = reply
    const frame = { chatId, messageId, epoch, delta: '' }
    const channel = replyChannel(messageId)
    this.bus.tellLive(channel, { ...frame, offset: reply.text.length })
    const { length } = reply.thinking
    if (length > 0) this.bus.tellLive(channel, { ...frame, offset: length, thinking: true })
  }

  /** This server holds the reply no more. */
  async end(reply: LiveReply): Promise<void> {
    this.#watchedUntil.delete(reply.id)
    await this.writer.end(reply)
  }

  close(): void {
    this.writer.close()
  }

  #frame(frame: MessageChunk): void {
    const reply = this.held.get(frame.messageId)
    if (reply) this.writer.add(reply)
    const until = this.#watchedUntil.get(frame.messageId)
    if (until === undefined) return
    if (until > Date.now()) this.bus.tellLive(replyChannel(frame.messageId), frame)
    else this.#watchedUntil.delete(frame.messageId)
  }
}
