import { signal } from '@preact/signals'

const chatAddress = /^\/chat\/([^/]+)\/?$/

/** The page's address: a chat's, or that of a new chat. */
export class RouteStore {
  /** The chat that is shown; undefined for a new one. */
  readonly chatId = signal<string>()

  constructor() {
    this.#read()
    window.addEventListener('popstate', () => this.#read())
  }

  static address(chatId: string | undefined): string {
    return chatId === undefined ? '/' : `/chat/${chatId}`
  }

  open(chatId: string | undefined): void {
    if (chatId === this.chatId.value) return
    history.pushState(null, '', RouteStore.address(chatId))
    this.chatId.value = chatId
  }

  /** Another address for the same place. */
  replace(chatId: string | undefined): void {
    history.replaceState(null, '', RouteStore.address(chatId))
    this.chatId.value = chatId
  }

  #read(): void {
    this.chatId.value = chatAddress.exec(location.pathname)?.[1]
  }
}
