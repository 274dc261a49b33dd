import { batch, computed, type ReadonlySignal, type Signal, signal } from '@preact/signals'
import {
  type Chat,
  type ChatClient,
  ChatError,
  type Conversation,
  type Message,
  type MessageView,
} from '../../client/index.js'
import { strings } from '../strings.js'
import type { Announcer } from './announcer.js'
import { oncePerFrame } from './frame.js'
import { SpokenReply } from './spoken-reply.js'

/** What an address is answered with that is no chat’s. */
const noChatCodes: ReadonlySet<string> = new Set([
  'CHAT_NOT_FOUND',
  'NOT_FOUND',
  'VALIDATION_FAILED',
])

export const isRunning = ({ status }: Pick<Message, 'status'>) =>
  status === 'queued' || status === 'streaming'

/** One conversation as it is shown: brought up to date once a frame, however fast tokens come. */
export class Thread {
  readonly chatId: string
  readonly state = signal<'loading' | 'ready' | 'missing' | 'deleted'>('loading')
  readonly chat = signal<Chat>()
  readonly messages = signal<readonly Message[]>([])
  readonly hasOlder = signal(false)
  readonly isLoadingOlder = signal(false)
  readonly error = signal<ChatError>()
  /** The reply that is being written, or waits to be. */
  readonly running = computed(() =>
    // Of a record that has ended nothing runs: a long conversation is not looked through view by view.
    this.messages.value.find((record) => isRunning(record) && isRunning(this.view(record).value)),
  )
  readonly isStopping = signal(false)
  readonly #client: ChatClient
  readonly #conversation: Conversation
  readonly #announcer: Announcer
  readonly #views = new Map<string, { record: Message; view: Signal<MessageView> }>()
  readonly #changed = new Set<string>()
  readonly #spoken = new Map<string, SpokenReply>()
  readonly #update = oncePerFrame(() => this.#show())
  readonly #wasMadeHere: boolean
  #isClosed = false

  /** @param wasMadeHere this window asked for every reply: they are read out from their beginning. */
  constructor(client: ChatClient, announcer: Announcer, chatId: string, wasMadeHere: boolean) {
    this.#wasMadeHere = wasMadeHere
    this.chatId = chatId
    this.#client = client
    this.#announcer = announcer
    const conversation = client.open(chatId)
    this.#conversation = conversation
    conversation.on('messages', this.#update)
    conversation.on('reply', (reply) => {
      this.#changed.add(reply.messageId)
      this.#update()
    })
    conversation.on('chat', this.#update)
    conversation.on('deleted', () => {
      this.state.value = 'deleted'
    })
    conversation.on('error', (error) => this.#fail(error))
    void conversation.loaded.then(this.#update)
  }

  /** What to show of a message now. */
  view(message: Message): ReadonlySignal<MessageView> {
    const known = this.#views.get(message.id)
    if (known) return known.view
    const view = signal(this.#conversation.view(message))
    this.#views.set(message.id, { record: message, view })
    return view
  }

  async loadOlder(): Promise<void> {
    if (this.isLoadingOlder.value || !this.hasOlder.value) return
    this.isLoadingOlder.value = true
    try {
      await this.#conversation.loadOlder()
    } catch (error) {
      this.#fail(error)
    }
    this.isLoadingOlder.value = false
    this.#update()
  }

  async stop(): Promise<void> {
    const reply = this.running.value
    if (!reply || this.isStopping.value) return
    this.isStopping.value = true
    try {
      await this.#client.stop(this.chatId, reply.id)
    } catch (error) {
      this.#fail(error)
    }
    this.isStopping.value = false
  }

  close(): void {
    this.#isClosed = true
    this.#conversation.close()
  }

  #show(): void {
    if (this.#isClosed) return
    const conversation = this.#conversation
    batch(() => {
      const isNewList = conversation.messages !== this.messages.value
      for (const message of isNewList ? conversation.messages : this.#changedRecords()) {
        const known = this.#views.get(message.id)
        if (!known) continue
        if (known.record === message && !this.#changed.has(message.id)) continue
        known.record = message
        known.view.value = conversation.view(message)
      }
      this.#changed.clear()
      this.messages.value = conversation.messages
      this.chat.value = conversation.chat
      this.hasOlder.value = conversation.hasOlder
      if (conversation.chat && this.state.value === 'loading') this.state.value = 'ready'
      if (conversation.chat) this.error.value = undefined
    })
    this.#speak()
  }

  *#changedRecords() {
    for (const id of this.#changed) {
      const record = this.#views.get(id)?.record
      if (record) yield record
    }
  }

  /** Reads replies out by sentences, from where they were when they were first seen. */
  #speak(): void {
    for (const message of this.messages.value) {
      if (message.role !== 'assistant') continue
      if (!isRunning(message) && !this.#spoken.has(message.id)) continue
      const { text, status } = this.view(message).value
      const before = this.#spoken.get(message.id)
      const runs = isRunning({ status })
      if (!before) {
        if (!runs) continue
        const isFromBeginning = text === '' || this.#wasMadeHere
        this.#spoken.set(message.id, new SpokenReply(isFromBeginning ? 0 : text.length))
        if (isFromBeginning) this.#announcer.say(strings.conversation.announceStarted)
        continue
      }
      const sentences = before.next(text, !runs)
      if (sentences) this.#announcer.say(sentences)
      if (runs) continue
      this.#spoken.delete(message.id)
      this.#announcer.say(endOf(status))
    }
  }

  #fail(error: unknown): void {
    if (!(error instanceof ChatError)) throw error
    if (noChatCodes.has(error.code)) {
      if (this.state.value !== 'deleted') this.state.value = this.chat.value ? 'deleted' : 'missing'
    } else this.error.value = error
  }
}

function endOf(status: Message['status']): string {
  const { announceEnded, announceStopped, announceFailed } = strings.conversation
  if (status === 'stopped') return announceStopped
  return status === 'complete' ? announceEnded : announceFailed
}
