import { signal } from '@preact/signals'
import { type ChatClient, ChatError, type ChatInput } from '../../client/index.js'
import type { KeyValues } from './browser-storage.js'
import { randomName } from './random-name.js'

interface Starting {
  userId: string
  input: ChatInput
  /** Once the server has made the chat. */
  chatId?: string
  messages: { content: string; clientMessageId: string }[]
}

interface NewChatHooks {
  /** The chat is there, and these are to be sent in it. */
  onMade: (chatId: string, messages: Starting['messages']) => void
  onRefused: (content: string, error: ChatError) => void
}

const key = 'page.starting'
/** How long until the server is asked again, where no connection tells that it is back. */
const againMs = 3000

/**
 * Makes a chat of its first messages. What could not be told to the server yet is kept over reloads of
 * this window, and sent once.
 */
export class NewChat {
  /** The settings of the chat that will be made. */
  readonly input = signal<ChatInput>({})
  /** What waits for the chat to be made. */
  readonly starting = signal<Starting>()
  readonly #client: ChatClient
  readonly #storage: KeyValues
  readonly #hooks: NewChatHooks
  #isRunning = false
  #wake: () => void = () => {}

  constructor(client: ChatClient, storage: KeyValues, hooks: NewChatHooks) {
    this.#client = client
    this.#storage = storage
    this.#hooks = hooks
    this.starting.subscribe((starting) => {
      if (starting) storage.setItem(key, JSON.stringify(starting))
    })
    client.on('connection', ({ status }) => {
      if (status === 'online') this.#wake()
    })
  }

  /** Goes on with what a window that was reloaded had begun. */
  resume(userId: string): void {
    const kept = JSON.parse(this.#storage.getItem(key) ?? 'null') as Starting | null
    if (kept?.userId !== userId) return
    this.starting.value = kept
    void this.#run()
  }

  send(userId: string, content: string): void {
    const before = this.starting.value
    const message = { content, clientMessageId: randomName() }
    this.starting.value = before
      ? { ...before, messages: [...before.messages, message] }
      : { userId, input: this.input.value, messages: [message] }
    void this.#run()
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return
    this.#isRunning = true
    try {
      const chatId = await this.#make()
      const messages = this.starting.value?.messages ?? []
      this.#hooks.onMade(chatId, messages)
      this.#end()
      this.input.value = {}
    } catch (error) {
      if (!(error instanceof ChatError)) throw error
      const starting = this.starting.value
      // Signed out: it goes on when its user is back.
      if (error.code === 'SIGNED_OUT' || error.status === 401) return
      this.#end()
      for (const { content } of starting?.messages ?? []) this.#hooks.onRefused(content, error)
    } finally {
      this.#isRunning = false
    }
  }

  /** @throws ChatError that is not retryable. */
  async #make(): Promise<string> {
    for (;;) {
      const { starting } = this
      if (starting.value?.chatId) return starting.value.chatId
      try {
        const { id } = await this.#client.rest.createChat(starting.value?.input ?? {})
        if (starting.value) starting.value = { ...starting.value, chatId: id }
        return id
      } catch (error) {
        if (!(error instanceof ChatError && error.retryable)) throw error
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        setTimeout(resolve, againMs)
      })
    }
  }

  #end(): void {
    this.starting.value = undefined
    this.#storage.removeItem(key)
  }
}
