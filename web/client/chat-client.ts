import { ChatError, closedError, networkError } from './chat-error.js'
import { LiveChatList } from './chat-list.js'
import { Connection, type ConnectionState } from './connection.js'
import { Conversation } from './conversation.js'
import { type FetchLike, followReply } from './follow.js'
import { Listeners } from './listeners.js'
import {
  memoryPending,
  Outbox,
  type OutboxEvents,
  type PendingMessage,
  type PendingStore,
} from './outbox.js'
import { ReplyText } from './reply-text.js'
import { createFetch, type Fetch } from './requests.js'
import { type CallOptions, type PageOptions, Rest } from './rest.js'
import { type Locks, randomName, Session, type SessionEvents } from './session.js'
import { memoryTokens, type TokenStore } from './token-store.js'
import type {
  Chat,
  ChatSummary,
  LoginInput,
  Message,
  MessageInput,
  RegisterInput,
  Turn,
  User,
} from './types.js'

export interface ChatClientOptions {
  /** The server's, such as `https://chat.example`; in a browser, the page's own unless given. */
  url?: string
  /** Where the tokens are kept: in memory, or `storedTokens(localStorage)`. */
  tokens?: TokenStore
  /** Where messages wait that are not sent yet: in memory, or `storedPending(localStorage)`. */
  pending?: PendingStore
  /** How long to wait for an answer, in milliseconds. */
  timeoutMs?: number
  /** In place of the global one. */
  fetch?: Fetch
}

export type ChatClientEvents = SessionEvents &
  OutboxEvents & {
    connection: ConnectionState
    'chat-created': { chat: Chat }
    'chat-updated': { chat: Chat }
    'chat-deleted': { chatId: string }
  }

export interface SendOptions {
  /** Names the message: sent again under the same name it is stored once. Made up unless given. */
  clientMessageId?: string
}

export interface FollowOptions extends CallOptions {
  /** Called whenever the text, the thinking or the status changed. */
  onChange?: (reply: ReplyText) => void
}

/** A refresh is tried again within the ten seconds in which the spent token is good. */
const refreshMs = 4000
const defaultTimeoutMs = 30_000
const ackMs = 10_000

/**
 * A client of the chat server: one session, one socket, typed calls. Every error is a ChatError, but for
 * the reason of a signal that the caller gave.
 */
export class ChatClient {
  readonly url: string
  /** Every operation of the REST API, as it is. */
  readonly rest: Rest
  readonly #session: Session
  readonly #connection: Connection
  readonly #outbox: Outbox
  readonly #events = new Listeners<ChatClientEvents>()
  readonly #fetch: Fetch
  /** How many conversations of each chat are open. */
  readonly #openChats = new Map<string, number>()

  constructor(options: ChatClientOptions = {}) {
    const { tokens = memoryTokens(), pending = memoryPending() } = options
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs
    this.url = serverUrl(options.url)
    // Called without a `this`, as browsers' fetch wants it.
    this.#fetch = options.fetch ?? ((request) => fetch(request))
    const refresher = new Rest(this.url, createFetch(this.#fetch, refreshMs), noTokens)
    this.#session = new Session({
      store: tokens,
      refresh: (refreshToken) => refresher.refresh(refreshToken),
      locks: tokens.watch && webLocks(),
      lockName: `durable-chat.tokens ${this.url}`,
    })
    this.rest = new Rest(this.url, createFetch(this.#fetch, timeoutMs), this.#session)
    this.#connection = new Connection({
      url: this.url,
      token: (refused) => this.#session.token(refused),
      onEnd: (code, message) => void this.#session.end(code, message),
      timeoutMs: Math.min(timeoutMs, ackMs),
    })
    this.#outbox = new Outbox(pending, (message) => this.#deliver(message))
    this.#relay()
  }

  readonly on: Listeners<ChatClientEvents>['on'] = (event, listener) =>
    this.#events.on(event, listener)

  /** The socket itself, for events that this client does not name. */
  get socket(): Connection['socket'] {
    return this.#connection.socket
  }

  get connection(): ConnectionState {
    return this.#connection.state
  }

  /** Messages that are not yet known to be stored, of all chats. */
  get pending(): readonly PendingMessage[] {
    return this.#outbox.pending
  }

  async register(input: RegisterInput, options?: CallOptions): Promise<User> {
    const signedIn = await this.rest.register(input, options)
    await this.#session.start(signedIn)
    return signedIn.user
  }

  async logIn(input: LoginInput, options?: CallOptions): Promise<User> {
    const signedIn = await this.rest.logIn(input, options)
    await this.#session.start(signedIn)
    return signedIn.user
  }

  /** Ends the session. The tokens are forgotten here, even where the server could not be told. */
  async logOut(options?: CallOptions): Promise<void> {
    await this.#endAfter(this.rest.logOut(options), 'LOGGED_OUT', 'Logged out.')
  }

  /** Ends the sessions of all devices, and stops the replies that run. */
  async logOutEverywhere(options?: CallOptions): Promise<void> {
    await this.#endAfter(this.rest.logOutEverywhere(options), 'LOGGED_OUT', 'Logged out.')
  }

  async deleteAccount(password: string, options?: CallOptions): Promise<void> {
    const userId = await this.#session.userId()
    await this.rest.deleteAccount(password, options)
    if (userId) this.#outbox.forget(userId)
    await this.#session.end('ACCOUNT_DELETED', 'The account was deleted.')
  }

  /** The id of the one who is signed in, from the token store alone. */
  userId(): Promise<string | undefined> {
    return this.#session.userId()
  }

  /** A valid access token, for calls of your own. */
  token(): Promise<string> {
    return this.#session.token()
  }

  /**
   * Opens the socket, which then stays open until the session ends or `disconnect`; sends what was kept.
   * @throws ChatError SIGNED_OUT.
   */
  async connect(): Promise<void> {
    const userId = await this.#session.userId()
    if (userId === undefined) throw new ChatError('SIGNED_OUT', 'Sign in before connecting.')
    this.#connection.open()
    this.#outbox.resume(userId)
  }

  disconnect(): void {
    this.#connection.close()
  }

  /** Ends everything that runs here; the session stays, in the token store. */
  close(): void {
    this.#outbox.stop()
    this.#connection.close()
    this.#session.close()
  }

  /** All chats, newest activity first, read page by page. */
  async *chats(options: Omit<PageOptions, 'cursor'> = {}): AsyncGenerator<ChatSummary, void> {
    let cursor: string | undefined
    do {
      const page = await this.rest.listChats({ limit: 100, ...options, cursor })
      yield* page.chats
      cursor = page.nextCursor ?? undefined
    } while (cursor)
  }

  /** All messages of a chat, newest first, read page by page. */
  async *messages(
    chatId: string,
    options: Omit<PageOptions, 'cursor'> = {},
  ): AsyncGenerator<Message, void> {
    let cursor: string | undefined
    do {
      const page = await this.rest.listMessages(chatId, { limit: 100, ...options, cursor })
      yield* page.messages.toReversed()
      cursor = page.nextCursor ?? undefined
    } while (cursor)
  }

  /** The list of chats, kept up to date while the socket is open. */
  liveChats({ pageSize = 30 }: { pageSize?: number } = {}): LiveChatList {
    return new LiveChatList({ rest: this.rest, connection: this.#connection, pageSize })
  }

  /** A chat's messages and running replies, kept up to date while the socket is open. */
  open(chatId: string, { pageSize = 50 }: { pageSize?: number } = {}): Conversation {
    const connection = this.#connection
    this.#openChats.set(chatId, (this.#openChats.get(chatId) ?? 0) + 1)
    return new Conversation({
      chatId,
      rest: this.rest,
      connection,
      pageSize,
      onClose: () => {
        const left = (this.#openChats.get(chatId) ?? 1) - 1
        if (left > 0) return void this.#openChats.set(chatId, left)
        this.#openChats.delete(chatId)
        // The server forgets the rooms of a socket that is gone.
        connection.ask('leave-chat', { chatId }).catch(() => {})
      },
    })
  }

  /**
   * Sends a message: resolves once it and its reply's record are stored. Offline it waits, and is sent once.
   * @throws ChatError: the server refuses it, or the session ended, after which it is still `pending`.
   */
  async send(
    chatId: string,
    input: MessageInput | string,
    { clientMessageId = randomName() }: SendOptions = {},
  ): Promise<Turn> {
    const userId = await this.#session.userId()
    if (userId === undefined) throw new ChatError('SIGNED_OUT', 'Sign in before sending.')
    const body = typeof input === 'string' ? { content: input } : input
    const message = { ...body, chatId, clientMessageId, userId, writtenAt: Date.now() }
    return this.#outbox.send(message)
  }

  /** Gives up a message that is pending, unless it is on its way already. */
  discard(clientMessageId: string): void {
    this.#outbox.discard(clientMessageId)
  }

  /** Sends a message and resolves with the reply's final record, over broken connections and restarts. */
  async ask(
    chatId: string,
    input: MessageInput | string,
    options: SendOptions & FollowOptions = {},
  ): Promise<Message> {
    const { reply } = await this.send(chatId, input, options)
    return this.follow(chatId, reply.id, options)
  }

  /** Follows a reply over server-sent events until it has ended; resolves with its final record. */
  follow(
    chatId: string,
    messageId: string,
    { signal = new AbortController().signal, onChange }: FollowOptions = {},
  ): Promise<Message> {
    const url = `${this.url}/api/ai/chats/${chatId}/messages/${messageId}/stream`
    let refused: string | undefined
    let last = ''
    const fetchLike: FetchLike = async (address, init) => {
      try {
        const response = await this.#fetch(new Request(address, init))
        if (response.status === 401) refused = last
        return response
      } catch (error) {
        throw networkError(error, address)
      }
    }
    const token = async () => {
      last = await this.#session.token(refused)
      return last
    }
    return followReply(fetchLike, url, token, new ReplyText(messageId), signal, onChange).catch(
      (error: unknown) => {
        this.#session.refusedWith(error)
        throw error
      },
    )
  }

  /** Stops a reply; resolves with its record once it is stopped. */
  stop(chatId: string, messageId: string, options?: CallOptions): Promise<Message> {
    return this.rest.stopMessage(chatId, messageId, options)
  }

  /** Over the socket where it is open, else over REST: the name of the message is the same in both. */
  async #deliver({ userId, writtenAt, clientMessageId, chatId, ...body }: PendingMessage) {
    if ((await this.#session.userId()) !== userId) throw otherUser()
    if (!this.#connection.socket.connected) {
      return this.rest.sendMessage(chatId, body, clientMessageId)
    }
    const { message, reply } = await this.#connection.ask('chat-message', {
      chatId,
      clientMessageId,
      ...body,
    })
    return { message, reply }
  }

  /** Forgets the session whatever becomes of the call that ends it. */
  async #endAfter(call: Promise<void>, code: string, message: string): Promise<void> {
    try {
      await call
    } finally {
      await this.#session.end(code, message)
    }
  }

  /** Brings the parts' events together. */
  #relay(): void {
    const tell = this.#events.tell.bind(this.#events)
    this.#session.events.on('signed-in', (event) => {
      this.#outbox.resume(event.userId)
      tell('signed-in', event)
    })
    this.#session.events.on('signed-out', (event) => {
      this.#connection.close(new ChatError(event.code, event.message))
      this.#outbox.stop(new ChatError('SIGNED_OUT', event.message))
      tell('signed-out', event)
    })
    this.#connection.events.on('connection', (state) => {
      if (state.status === 'online') this.#outbox.wake()
      tell('connection', state)
    })
    this.#outbox.events.on('pending', (messages) => tell('pending', messages))
    this.#outbox.events.on('send-failed', (event) => tell('send-failed', event))
    this.socket.on('chat-created', (event) => tell('chat-created', event))
    this.socket.on('chat-updated', (event) => tell('chat-updated', event))
    this.socket.on('chat-deleted', (event) => tell('chat-deleted', event))
  }
}

const otherUser = () => new ChatError('SIGNED_OUT', 'Another user is signed in.')

const noTokens = {
  token: () => Promise.reject(closedError()),
  refusedWith: () => {},
}

/** An absolute URL without a slash at its end. */
function serverUrl(given: string | undefined): string {
  const url = given ?? (globalThis as { location?: { origin: string } }).location?.origin
  if (url === undefined) {
    throw new ChatError('BAD_URL', 'Outside a browser the option `url` is needed: the server’s.')
  }
  if (!/^https?:\/\/[^/?#]+\/*$/.test(url)) {
    throw new ChatError(
      'BAD_URL',
      `\`url\` must be the server’s origin, like https://chat.example, not ${url}.`,
    )
  }
  return url.replace(/\/+$/, '')
}

function webLocks(): Locks | undefined {
  return (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks
}
