import { ChatError, faultError } from './chat-error.js'
import type { Connection } from './connection.js'
import { Listeners } from './listeners.js'
import type { ReplyText } from './reply-text.js'
import type { Rest } from './rest.js'
import { type ChatSocket, ChatStream } from './stream.js'
import type { Chat, Message, MessageStart } from './types.js'

export interface ConversationEvents {
  /** The list changed: a message was stored or has ended, or pages were loaded. */
  messages: readonly Message[]
  /** A reply's text, thinking, status or place in the queue changed. */
  reply: ReplyText
  /** The chat's title, model, system prompt or options changed, here or elsewhere. */
  chat: Chat
  deleted: { chatId: string }
  /** What could not be loaded or followed; a retryable one is tried again when the connection is back. */
  error: ChatError
}

/** What to show of a message now. */
export interface MessageView {
  text: string
  thinking: string
  status: Message['status']
  position: number | undefined
  estimatedStart: string | undefined
}

interface ConversationParts {
  chatId: string
  rest: Rest
  connection: Connection
  pageSize: number
  onClose: () => void
}

const isRunning = ({ status }: Pick<Message, 'status'>) =>
  status === 'queued' || status === 'streaming'

/**
 * The messages of one chat as they are on the server, live: those of other devices, replies as they are
 * written, and after a broken connection whatever was missed.
 */
export class Conversation {
  readonly chatId: string
  /** Resolves when the newest page was tried for the first time; see `error`. */
  readonly loaded: Promise<void>
  readonly #parts: ConversationParts
  readonly #events = new Listeners<ConversationEvents>()
  readonly #stream: ChatStream
  readonly #aborted = new AbortController()
  #chat: Chat | undefined
  #messages: readonly Message[] = []
  /** Leads to older messages; undefined before the first page. */
  #older: string | null | undefined
  #loadingOlder: Promise<void> | undefined
  /** Whether messages may have been missed since the last page was read. */
  #isBehind = true

  constructor(parts: ConversationParts) {
    this.#parts = parts
    this.chatId = parts.chatId
    const { socket } = parts.connection
    socket.on('connect', this.#onConnect)
    socket.on('message', this.#onMessage)
    socket.on('message-start', this.#onStart)
    socket.on('chat-updated', this.#onUpdated)
    socket.on('chat-deleted', this.#onDeleted)
    this.#stream = new ChatStream(socket as unknown as ChatSocket, parts.chatId, {
      onChange: (reply) => this.#events.tell('reply', reply),
      onError: (fault) => this.#events.tell('error', faultError(fault)),
      onJoined: () => {
        if (this.#isBehind) void this.#load()
      },
    })
    // At once, without waiting for the socket; what comes until it joins is read again then.
    this.loaded = this.#load()
    this.#isBehind = true
  }

  readonly on: Listeners<ConversationEvents>['on'] = (event, listener) =>
    this.#events.on(event, listener)

  /** Undefined until it is loaded. */
  get chat(): Chat | undefined {
    return this.#chat
  }

  /** In order: the newest page, and the older ones that were loaded. */
  get messages(): readonly Message[] {
    return this.#messages
  }

  get hasOlder(): boolean {
    return typeof this.#older === 'string'
  }

  /** The live text of a reply that runs, or ran while this conversation was open. */
  reply(messageId: string): ReplyText | undefined {
    return this.#stream.reply(messageId)
  }

  view(message: Message): MessageView {
    const reply = isRunning(message) ? this.reply(message.id) : undefined
    const isLive = reply !== undefined && (reply.epoch > 0 || reply.ended)
    return {
      text: isLive ? reply.text : message.content,
      thinking: isLive ? reply.thinking : (message.thinking ?? ''),
      status: reply?.status ?? message.status,
      position: reply?.position,
      estimatedStart: reply?.estimatedStart,
    }
  }

  /** Loads the page before the oldest message. */
  loadOlder(): Promise<void> {
    this.#loadingOlder ??= this.#loadOlder().finally(() => {
      this.#loadingOlder = undefined
    })
    return this.#loadingOlder
  }

  close(): void {
    if (this.#aborted.signal.aborted) return
    this.#aborted.abort()
    this.#stream.close()
    const { socket } = this.#parts.connection
    socket.off('connect', this.#onConnect)
    socket.off('message', this.#onMessage)
    socket.off('message-start', this.#onStart)
    socket.off('chat-updated', this.#onUpdated)
    socket.off('chat-deleted', this.#onDeleted)
    this.#parts.onClose()
  }

  readonly #onConnect = () => {
    this.#isBehind = true
  }

  readonly #onMessage = (message: Message) => {
    if (message.chatId === this.chatId) this.#merge([message])
  }

  readonly #onStart = ({ epoch, position, estimatedStart, ...message }: MessageStart) => {
    if (message.chatId === this.chatId) this.#merge([message])
  }

  readonly #onUpdated = ({ chat }: { chat: Chat }) => {
    if (chat.id === this.chatId) this.#setChat(chat)
  }

  readonly #onDeleted = ({ chatId }: { chatId: string }) => {
    if (chatId === this.chatId) this.#events.tell('deleted', { chatId })
  }

  async #load(): Promise<void> {
    const { rest, pageSize: limit } = this.#parts
    this.#isBehind = false
    const { signal } = this.#aborted
    const before = this.#chat
    try {
      const { messages, nextCursor, ...chat } = await rest.readChat(this.chatId, { limit, signal })
      // Unless an event told of a newer one meanwhile.
      if (this.#chat === before) this.#setChat(chat)
      const newest = this.#messages.at(-1)?.seq
      const first = messages[0]?.seq
      const isGap = newest !== undefined && first !== undefined && first > newest + 1
      if (this.#older === undefined || isGap) this.#older = nextCursor
      this.#merge(messages, isGap ? [] : this.#messages)
    } catch (error) {
      if (signal.aborted) return
      this.#isBehind = true
      this.#fail(error)
    }
  }

  async #loadOlder(): Promise<void> {
    const { rest, pageSize: limit } = this.#parts
    const { signal } = this.#aborted
    const cursor = this.#older
    if (typeof cursor !== 'string') return
    const { messages, nextCursor } = await rest.listMessages(this.chatId, { limit, cursor, signal })
    // A reload replaced the list meanwhile.
    if (this.#older !== cursor) return
    this.#older = nextCursor
    this.#merge(messages)
  }

  /** A record that has ended is never replaced by one that had not. */
  #merge(messages: readonly Message[], known = this.#messages): void {
    const merged = new Map(known.map((message) => [message.id, message]))
    for (const message of messages) {
      const before = merged.get(message.id)
      if (!before || isRunning(before) || !isRunning(message)) merged.set(message.id, message)
    }
    this.#messages = [...merged.values()].sort((a, b) => a.seq - b.seq)
    this.#events.tell('messages', this.#messages)
  }

  #setChat(chat: Chat): void {
    this.#chat = chat
    this.#events.tell('chat', chat)
  }

  #fail(error: unknown): void {
    if (!(error instanceof ChatError)) throw error
    this.#events.tell('error', error)
  }
}
