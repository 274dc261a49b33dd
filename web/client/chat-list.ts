import { ChatError } from './chat-error.js'
import type { Connection } from './connection.js'
import { Listeners } from './listeners.js'
import type { Rest } from './rest.js'
import type { Chat, ChatSummary } from './types.js'

export interface ChatListEvents {
  chats: readonly ChatSummary[]
  /** What could not be loaded; a retryable one is tried again when the connection is back. */
  error: ChatError
}

interface ChatListParts {
  rest: Rest
  connection: Connection
  pageSize: number
}

const longestPage = 100

/** The user's chats, newest activity first, live: changed by this and other devices. */
export class LiveChatList {
  /** Resolves when the first page was tried for the first time; see `error`. */
  readonly loaded: Promise<void>
  readonly #parts: ChatListParts
  readonly #events = new Listeners<ChatListEvents>()
  readonly #aborted = new AbortController()
  /** What events told of since the last load began: a page that was read before knows less. */
  #changed = new Map<string, ChatSummary | 'deleted'>()
  #chats: readonly ChatSummary[] = []
  #next: string | null | undefined
  #loadingMore: Promise<void> | undefined

  constructor(parts: ChatListParts) {
    this.#parts = parts
    const { socket } = parts.connection
    socket.on('connect', this.#reload)
    socket.on('chat-created', this.#onChat)
    socket.on('chat-updated', this.#onChat)
    socket.on('chat-deleted', this.#onDeleted)
    this.loaded = this.#load()
  }

  readonly on: Listeners<ChatListEvents>['on'] = (event, listener) =>
    this.#events.on(event, listener)

  get chats(): readonly ChatSummary[] {
    return this.#chats
  }

  get hasMore(): boolean {
    return typeof this.#next === 'string'
  }

  /** Loads the next page. */
  loadMore(): Promise<void> {
    this.#loadingMore ??= this.#loadMore().finally(() => {
      this.#loadingMore = undefined
    })
    return this.#loadingMore
  }

  close(): void {
    this.#aborted.abort()
    const { socket } = this.#parts.connection
    socket.off('connect', this.#reload)
    socket.off('chat-created', this.#onChat)
    socket.off('chat-updated', this.#onChat)
    socket.off('chat-deleted', this.#onDeleted)
  }

  readonly #reload = () => void this.#load()

  readonly #onChat = ({ chat: { system, options, user, ...summary } }: { chat: Chat }) => {
    this.#changed.set(summary.id, summary)
    this.#show(this.#chats)
  }

  readonly #onDeleted = ({ chatId }: { chatId: string }) => {
    this.#changed.set(chatId, 'deleted')
    this.#show(this.#chats)
  }

  /** Reads as many as are shown: what was missed may be anywhere among them. */
  async #load(): Promise<void> {
    const { rest, pageSize } = this.#parts
    const { signal } = this.#aborted
    this.#changed = new Map()
    const wanted = Math.max(this.#chats.length, pageSize)
    const chats: ChatSummary[] = []
    let cursor: string | undefined
    try {
      do {
        const limit = Math.min(wanted - chats.length, longestPage)
        const page = await rest.listChats({ limit, cursor, signal })
        chats.push(...page.chats)
        cursor = page.nextCursor ?? undefined
      } while (cursor && chats.length < wanted)
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof ChatError)) throw error
      this.#events.tell('error', error)
      return
    }
    this.#next = cursor ?? null
    this.#show(chats)
  }

  async #loadMore(): Promise<void> {
    const cursor = this.#next
    if (typeof cursor !== 'string') return
    const { rest, pageSize: limit } = this.#parts
    const { signal } = this.#aborted
    const { chats, nextCursor } = await rest.listChats({ limit, cursor, signal })
    // A reload replaced the list meanwhile.
    if (this.#next !== cursor) return
    this.#next = nextCursor
    const known = new Set(this.#chats.map(({ id }) => id))
    this.#show([...this.#chats, ...chats.filter(({ id }) => !known.has(id))])
  }

  #show(chats: readonly ChatSummary[]): void {
    const changed = [...this.#changed.values()].filter((chat) => chat !== 'deleted')
    this.#chats = [...chats.filter(({ id }) => !this.#changed.has(id)), ...changed].sort((a, b) =>
      b.updatedAt.localeCompare(a.updatedAt),
    )
    this.#events.tell('chats', this.#chats)
  }
}
