import { signal } from '@preact/signals'
import type { ChatClient, Message } from '../../client/index.js'

/** What this window has written and the server is not known to have. */
export class OutboxStore {
  readonly #client: ChatClient
  readonly #pending = signal<ChatClient['pending']>([])
  /** By name: the `seq` of the last message that was there when it was written. */
  readonly #after = new Map<string, number>()

  constructor(client: ChatClient) {
    this.#client = client
    client.on('pending', (messages) => {
      this.#pending.value = [...messages]
    })
  }

  note(clientMessageId: string, after: number): void {
    this.#after.set(clientMessageId, after)
  }

  /** What an earlier window left is sent by this one too, and shown until the server has answered. */
  noteKept(): void {
    for (const { clientMessageId } of this.#client.pending) {
      if (!this.#after.has(clientMessageId)) this.note(clientMessageId, Number.POSITIVE_INFINITY)
    }
    this.#pending.value = [...this.#client.pending]
  }

  /** Of one chat, without what its messages show already: the answer may come after the room's event. */
  of(chatId: string | undefined, messages: readonly Message[]) {
    const taken = new Set<string>()
    return this.#pending.value.filter((pending) => {
      const after = this.#after.get(pending.clientMessageId)
      if (pending.chatId !== chatId || after === undefined) return false
      const shown = messages.findLast(
        ({ id, role, seq, content }) =>
          seq > after && role === 'user' && content === pending.content && !taken.has(id),
      )
      if (shown) taken.add(shown.id)
      return !shown
    })
  }
}
