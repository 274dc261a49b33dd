import createClient, { type Client } from 'openapi-fetch'
import type { paths } from './openapi.js'
import type { TokenSource } from './requests.js'
import { type Fetch, repeated, withToken } from './requests.js'
import type {
  Chat,
  ChatInput,
  ChatList,
  ChatPatch,
  ChatWithMessages,
  Health,
  LanguageModel,
  LoginInput,
  Message,
  MessageInput,
  MessageList,
  RegisterInput,
  SignedIn,
  TokenPair,
  Turn,
  User,
} from './types.js'

export interface CallOptions {
  signal?: AbortSignal | undefined
}

export interface PageOptions extends CallOptions {
  /** 1 to 100. */
  limit?: number
  /** The `nextCursor` of the page before. */
  cursor?: string | undefined
}

/** An answer of openapi-fetch; one that is not 2xx never comes here. */
interface Answered<T> {
  data?: T
}

/**
 * Every operation of the REST API. Errors are ChatErrors; what changes nothing when it is repeated is
 * repeated while its error is retryable.
 */
export class Rest {
  readonly #open: Client<paths>
  readonly #signed: Client<paths>

  constructor(url: string, fetch: Fetch, tokens: TokenSource) {
    this.#open = createClient<paths>({ baseUrl: url, fetch })
    this.#signed = createClient<paths>({ baseUrl: url, fetch: withToken(fetch, tokens) })
  }

  async register(body: RegisterInput, { signal }: CallOptions = {}): Promise<SignedIn> {
    return data(await this.#open.POST('/api/auth/register', { body, signal }))
  }

  async logIn(body: LoginInput, { signal }: CallOptions = {}): Promise<SignedIn> {
    return data(await this.#open.POST('/api/auth/login', { body, signal }))
  }

  async refresh(refreshToken: string): Promise<TokenPair> {
    return data(await this.#open.POST('/api/auth/refresh', { body: { refreshToken } }))
  }

  async logOut({ signal }: CallOptions = {}): Promise<void> {
    await this.#signed.POST('/api/auth/logout', { signal })
  }

  async logOutEverywhere({ signal }: CallOptions = {}): Promise<void> {
    await this.#signed.POST('/api/auth/logout-everywhere', { signal })
  }

  profile({ signal }: CallOptions = {}): Promise<User> {
    return idempotent(() => this.#signed.GET('/api/auth/profile', { signal }), signal)
  }

  async deleteAccount(password: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#signed.DELETE('/api/auth/profile', { body: { password }, signal })
  }

  async models({ signal }: CallOptions = {}): Promise<LanguageModel[]> {
    const list = await idempotent(() => this.#signed.GET('/api/ai/models', { signal }), signal)
    return list.models
  }

  async createChat(body: ChatInput = {}, { signal }: CallOptions = {}): Promise<Chat> {
    return data(await this.#signed.POST('/api/ai/chats', { body, signal }))
  }

  listChats({ limit = 20, cursor, signal }: PageOptions = {}): Promise<ChatList> {
    const params = { query: { limit, ...(cursor && { cursor }) } }
    return idempotent(() => this.#signed.GET('/api/ai/chats', { params, signal }), signal)
  }

  /** A chat with a page of its messages, in order; `cursor` leads to older ones. */
  readChat(chatId: string, options: PageOptions = {}): Promise<ChatWithMessages> {
    const { signal } = options
    const params = { path: { chatId }, query: before(options) }
    return idempotent(() => this.#signed.GET('/api/ai/chats/{chatId}', { params, signal }), signal)
  }

  updateChat(chatId: string, body: ChatPatch, { signal }: CallOptions = {}): Promise<Chat> {
    const params = { path: { chatId } }
    return idempotent(
      () => this.#signed.PATCH('/api/ai/chats/{chatId}', { params, body, signal }),
      signal,
    )
  }

  /** @param options `keepalive` lets the request outlive the page. */
  async deleteChat(
    chatId: string,
    { signal, keepalive = false }: CallOptions & { keepalive?: boolean } = {},
  ): Promise<void> {
    const params = { path: { chatId } }
    let tries = 0
    await repeated(async () => {
      tries += 1
      try {
        await this.#signed.DELETE('/api/ai/chats/{chatId}', { params, signal, keepalive })
      } catch (error) {
        // The answer of an earlier try was lost.
        if (tries > 1 && (error as { code?: unknown }).code === 'CHAT_NOT_FOUND') return
        throw error
      }
    }, signal)
  }

  /** Messages in order, the newest page first; `cursor` leads to older ones. */
  listMessages(chatId: string, options: PageOptions = {}): Promise<MessageList> {
    const { signal } = options
    const params = { path: { chatId }, query: before(options) }
    return idempotent(
      () => this.#signed.GET('/api/ai/chats/{chatId}/messages', { params, signal }),
      signal,
    )
  }

  readMessage(chatId: string, messageId: string, { signal }: CallOptions = {}): Promise<Message> {
    const params = { path: { chatId, messageId } }
    return idempotent(
      () => this.#signed.GET('/api/ai/chats/{chatId}/messages/{messageId}', { params, signal }),
      signal,
    )
  }

  /**
   * Stores a message and its reply's record; the reply is then generated whoever listens.
   * @param key names the message: sent again with it, nothing is stored twice.
   */
  async sendMessage(
    chatId: string,
    body: MessageInput,
    key: string,
    { signal }: CallOptions = {},
  ): Promise<Turn> {
    const header = { 'idempotency-key': key, prefer: 'respond-async' }
    const params = { path: { chatId }, header }
    return data(
      await this.#signed.POST('/api/ai/chats/{chatId}/messages', { params, body, signal }),
    )
  }

  /** Stops a reply; one that had ended is returned as it is. */
  stopMessage(chatId: string, messageId: string, { signal }: CallOptions = {}): Promise<Message> {
    const params = { path: { chatId, messageId } }
    return idempotent(
      () =>
        this.#signed.POST('/api/ai/chats/{chatId}/messages/{messageId}/stop', {
          params,
          signal,
        }),
      signal,
    )
  }

  async health({ signal }: CallOptions = {}): Promise<Health> {
    return data(await this.#open.GET('/health/ready', { signal }))
  }
}

function before({ limit = 50, cursor }: PageOptions) {
  return { limit, ...(cursor && { before: cursor }) }
}

/** Repeats a call that changes nothing when it is repeated. */
function idempotent<T>(call: () => Promise<Answered<T>>, signal: AbortSignal | undefined) {
  return repeated(async () => data(await call()), signal)
}

function data<T>({ data }: Answered<T>): T {
  return data as T
}
