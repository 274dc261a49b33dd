import { type Signal, signal } from '@preact/signals'
import type { KeyValues } from './browser-storage.js'

/** What is typed and not sent, by chat: it outlives a reload, and a session that ends. */
export class DraftStore {
  readonly #storage: KeyValues
  readonly #drafts = new Map<string, Signal<string>>()

  constructor(storage: KeyValues) {
    this.#storage = storage
  }

  of(userId: string | undefined, chatId: string | undefined): Signal<string> {
    const key = `page.draft ${userId ?? ''} ${chatId ?? 'new'}`
    const known = this.#drafts.get(key)
    if (known) return known
    const draft = signal(this.#storage.getItem(key) ?? '')
    this.#drafts.set(key, draft)
    draft.subscribe((text) => {
      if (text === '') this.#storage.removeItem(key)
      else this.#storage.setItem(key, text)
    })
    return draft
  }

  /** Adds text that could not be sent to what is typed. */
  putBack(userId: string | undefined, chatId: string | undefined, text: string): void {
    const draft = this.of(userId, chatId)
    draft.value = draft.value.trim() === '' ? text : `${text}\n\n${draft.value}`
  }

  /** Empties every draft: the one who typed them has logged out. */
  clear(): void {
    for (const draft of this.#drafts.values()) draft.value = ''
  }
}
