import { computed, effect, signal } from '@preact/signals'
import type { KeyValues } from './browser-storage.js'
import type { ConnectionStore } from './connection.js'
import type { Thread } from './thread.js'

const key = 'page.survival'

/** The steps of "See it survive", which tick themselves off. */
export class SurvivalStore {
  readonly isShown = signal(true)
  /** Another window shows the same chat. */
  readonly hasWindow = signal(false)
  readonly hasAsked = signal(false)
  readonly wasKilled = signal(false)
  readonly isBack = signal(false)
  readonly hasSurvived = signal(false)
  readonly #windows = new BroadcastChannel('durable-chat.windows')
  #reply: { thread: Thread; id: string } | undefined
  readonly #shownChat = signal<string>()

  constructor(
    storage: KeyValues,
    connection: ConnectionStore,
    thread: { readonly value: Thread | undefined },
  ) {
    this.isShown.value = storage.getItem(key) !== 'hidden'
    effect(() => {
      if (this.isShown.value) storage.removeItem(key)
      else storage.setItem(key, 'hidden')
    })
    this.#windows.onmessage = ({
      data,
    }: MessageEvent<{ chatId?: unknown; isAnswer?: unknown }>) => {
      if (data.chatId !== this.#shownChat.peek() || data.chatId === undefined) return
      this.hasWindow.value = true
      if (!data.isAnswer) this.#windows.postMessage({ chatId: data.chatId, isAnswer: true })
    }
    const running = computed(() => thread.value?.running.value)
    effect(() => {
      this.#shownChat.value = thread.value?.chatId
      if (thread.value) this.#windows.postMessage({ chatId: thread.value.chatId })
    })
    effect(() => {
      const reply = running.value
      const { status } = connection.state.value
      if (reply && thread.value) {
        this.hasAsked.value = true
        if (status === 'connecting') {
          this.wasKilled.value = true
          this.#reply = { thread: thread.value, id: reply.id }
        }
      }
      if (this.wasKilled.value && status === 'online') this.isBack.value = true
      if (this.isBack.value && this.#reply && !reply && status === 'online') {
        const { thread: watched, id } = this.#reply
        const record = watched.messages.value.find((message) => message.id === id)
        if (record?.status === 'complete') this.hasSurvived.value = true
      }
    })
  }
}
