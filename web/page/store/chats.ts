import { batch, computed, signal } from '@preact/signals'
import {
  type ChatClient,
  ChatError,
  type ChatSummary,
  type LiveChatList,
} from '../../client/index.js'
import { oncePerFrame } from './frame.js'

interface Deletion {
  chat: ChatSummary
  timer: ReturnType<typeof setTimeout>
}

/** How long a deletion can be taken back, in milliseconds. */
const undoMs = 5000

/** The list of chats, live, with the deletions that can still be taken back. */
export class ChatsStore {
  readonly #client: ChatClient
  readonly #all = signal<readonly ChatSummary[]>([])
  readonly deletions = signal<readonly Deletion[]>([])
  readonly isLoaded = signal(false)
  readonly hasMore = signal(false)
  readonly error = signal<{ what: 'load' | 'rename' | 'delete'; error: ChatError }>()
  readonly list = computed(() => {
    const gone = new Set(this.deletions.value.map(({ chat }) => chat.id))
    return gone.size === 0 ? this.#all.value : this.#all.value.filter(({ id }) => !gone.has(id))
  })
  #live: LiveChatList | undefined

  constructor(client: ChatClient) {
    this.#client = client
    // The page is left, or put aside for good: what waits for an undo is carried out.
    window.addEventListener('pagehide', () => {
      for (const deletion of this.deletions.value) this.#carryOut(deletion, true)
    })
  }

  /** Begins to follow the list of the one who is signed in. */
  open(): void {
    const live = this.#client.liveChats()
    this.#live = live
    const show = oncePerFrame(() => {
      if (this.#live !== live) return
      batch(() => {
        this.#all.value = live.chats
        this.hasMore.value = live.hasMore
        this.error.value = undefined
      })
    })
    live.on('chats', show)
    live.on('error', (error) => this.#fail('load', error))
    void live.loaded.then(() => {
      if (this.#live === live) this.isLoaded.value = true
    })
  }

  close(): void {
    for (const deletion of this.deletions.value) this.#carryOut(deletion)
    this.#live?.close()
    this.#live = undefined
    batch(() => {
      this.#all.value = []
      this.isLoaded.value = this.hasMore.value = false
      this.error.value = undefined
    })
  }

  async loadMore(): Promise<void> {
    await this.#try('load', async () => {
      await this.#live?.loadMore()
      this.hasMore.value = this.#live?.hasMore ?? false
    })
  }

  async rename(chatId: string, title: string): Promise<void> {
    const before = this.#all.value
    // At once; what the server says follows as `chat-updated`.
    this.#all.value = before.map((chat) => (chat.id === chatId ? { ...chat, title } : chat))
    const isDone = await this.#try('rename', () => this.#client.rest.updateChat(chatId, { title }))
    if (!isDone) this.#all.value = before
  }

  /** Takes a chat out of the list; it is deleted when nobody takes that back in time. */
  delete(chat: ChatSummary): void {
    const timer = setTimeout(() => this.#carryOut(deletion), undoMs)
    const deletion = { chat, timer }
    this.deletions.value = [...this.deletions.value, deletion]
  }

  undo(deletion: Deletion): void {
    clearTimeout(deletion.timer)
    this.#forget(deletion)
  }

  /** The chat after or before another in the list; the first where there is no other. */
  neighbour(chatId: string | undefined, step: 1 | -1): ChatSummary | undefined {
    const chats = this.list.value
    const at = chats.findIndex(({ id }) => id === chatId)
    return at < 0 ? chats[0] : chats[at + step]
  }

  #carryOut(deletion: Deletion, keepalive = false): void {
    clearTimeout(deletion.timer)
    const { id } = deletion.chat
    void this.#try('delete', () => this.#client.rest.deleteChat(id, { keepalive })).then(() =>
      this.#forget(deletion),
    )
  }

  #forget(deletion: Deletion): void {
    this.deletions.value = this.deletions.value.filter((other) => other !== deletion)
  }

  async #try(what: 'load' | 'rename' | 'delete', call: () => Promise<unknown>): Promise<boolean> {
    try {
      await call()
      return true
    } catch (error) {
      if (!(error instanceof ChatError)) throw error
      // Deleted elsewhere is deleted.
      if (what === 'delete' && error.code === 'CHAT_NOT_FOUND') return true
      this.#fail(what, error)
      return false
    }
  }

  #fail(what: 'load' | 'rename' | 'delete', error: ChatError): void {
    this.error.value = { what, error }
  }
}

export type { Deletion }
