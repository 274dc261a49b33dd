import { computed, effect, signal, untracked } from '@preact/signals'
import { createContext } from 'preact'
import { useContext } from 'preact/hooks'
import { ChatClient, type ChatError, storedPending, storedTokens } from '../../client/index.js'
import { Announcer } from './announcer.js'
import { browserStorage } from './browser-storage.js'
import { ChatsStore } from './chats.js'
import { ConnectionStore } from './connection.js'
import { DraftStore } from './drafts.js'
import { LookStore } from './look.js'
import { ModelsStore } from './models.js'
import { NewChat } from './new-chat.js'
import { OutboxStore } from './outbox.js'
import { randomName } from './random-name.js'
import { RouteStore } from './route.js'
import { SessionStore } from './session.js'
import { SurvivalStore } from './survival.js'
import { Thread } from './thread.js'

const longestContent = 100_000

/** The whole state of the page, fed by the client package alone. */
export class Store {
  readonly client: ChatClient
  readonly session: SessionStore
  readonly connection: ConnectionStore
  readonly chats: ChatsStore
  readonly models: ModelsStore
  readonly drafts: DraftStore
  readonly newChat: NewChat
  readonly survival: SurvivalStore
  readonly look: LookStore
  readonly route = new RouteStore()
  readonly announcer = new Announcer()
  /** The conversation that is shown; undefined for a new chat. */
  readonly thread = signal<Thread>()
  /** Why a message was not sent; its text is in the draft again. */
  readonly sendError = signal<{ chatId: string | undefined; error: ChatError }>()
  /** A counter: the message field takes the focus when it changes. */
  readonly focusComposer = signal(0)
  readonly #outbox: OutboxStore
  /** The chat that this window made last. */
  #made: string | undefined
  /** What waits to be sent in the chat that is shown. */
  readonly pending = computed(() =>
    this.#outbox.of(this.route.chatId.value, this.thread.value?.messages.value ?? []),
  )
  /** What is typed in the chat that is shown. */
  readonly draft = computed(() =>
    this.drafts.of(this.session.userId.value, this.route.chatId.value),
  )

  constructor() {
    const local = browserStorage('localStorage')
    const own = browserStorage('sessionStorage')
    this.client = new ChatClient({ tokens: storedTokens(local), pending: storedPending(local) })
    this.session = new SessionStore(this.client)
    this.#outbox = new OutboxStore(this.client)
    this.connection = new ConnectionStore(this.client)
    this.chats = new ChatsStore(this.client)
    this.models = new ModelsStore(this.client)
    this.drafts = new DraftStore(own)
    this.look = new LookStore(local)
    this.survival = new SurvivalStore(local, this.connection, this.thread)
    this.newChat = new NewChat(this.client, own, {
      onMade: (chatId, messages) => {
        for (const { content, clientMessageId } of messages) {
          this.#deliver(chatId, content, clientMessageId, 0)
        }
        this.#made = chatId
        if (this.route.chatId.peek() === undefined) this.route.replace(chatId)
      },
      onRefused: (content, error) => this.#notSent(undefined, content, error),
    })
    this.client.on('send-failed', ({ message, error }) =>
      this.#notSent(message.chatId, message.content, error),
    )
    this.#followSession()
    this.#followRoute()
    void this.session.start()
  }

  /** Sends what is typed in the chat that is shown. */
  send(): void {
    const draft = this.draft.peek()
    const content = draft.value.trim()
    const userId = this.session.userId.value
    if (content === '' || content.length > longestContent || userId === undefined) return
    const chatId = this.route.chatId.value
    this.sendError.value = undefined
    draft.value = ''
    if (chatId === undefined) {
      this.newChat.send(userId, content)
      return
    }
    this.sendIn(chatId, content)
  }

  /** Sends a text in a chat, whatever is typed. */
  sendIn(chatId: string, content: string): void {
    const last = this.thread.value?.messages.value.at(-1)
    this.#deliver(chatId, content, randomName(), last?.seq ?? 0)
  }

  /** Shows a new chat, or another one. */
  open(chatId: string | undefined): void {
    this.look.isListOpen.value = false
    this.route.open(chatId)
    this.focusComposer.value += 1
  }

  #notSent(chatId: string | undefined, content: string, error: ChatError): void {
    this.drafts.putBack(this.session.userId.value, chatId, content)
    this.sendError.value = { chatId, error }
  }

  /** @param after the `seq` of the last message that was there when this one was written. */
  #deliver(chatId: string, content: string, clientMessageId: string, after: number): void {
    this.#outbox.note(clientMessageId, after)
    this.client.send(chatId, content, { clientMessageId }).catch((error: ChatError) => {
      // Whatever else goes wrong is told as `send-failed`, or waits for the next login.
      if (error.code === 'TOO_MANY_PENDING') this.#notSent(chatId, content, error)
    })
  }

  #followSession(): void {
    let lastUser: string | undefined
    effect(() => {
      const { state, userId, ended } = this.session
      const now = state.value
      return untracked(() => {
        if (now === 'out' && ended.value === undefined) this.drafts.clear()
        if (now !== 'in') return
        const user = userId.value
        // Another’s chat says nothing to this one.
        if (lastUser !== undefined && lastUser !== user) this.route.open(undefined)
        lastUser = user
        this.chats.open()
        this.#outbox.noteKept()
        if (user !== undefined) this.newChat.resume(user)
        void this.models.load()
        return () => this.chats.close()
      })
    })
  }

  #followRoute(): void {
    const shown = computed(() =>
      this.session.state.value === 'in' ? this.route.chatId.value : undefined,
    )
    effect(() => {
      const chatId = shown.value
      if (chatId === undefined) return
      const thread = untracked(
        () => new Thread(this.client, this.announcer, chatId, chatId === this.#made),
      )
      this.thread.value = thread
      return () => {
        thread.close()
        this.thread.value = undefined
      }
    })
  }
}

const StoreContext = createContext<Store | undefined>(undefined)

export const StoreProvider = StoreContext.Provider

export function useStore(): Store {
  const store = useContext(StoreContext)
  if (!store) throw new Error('There is no store above this component.')
  return store
}
