import { computed, signal } from '@preact/signals'
import type { ChatClient, ConnectionState } from '../../client/index.js'

/** A connection that is back sooner is not worth a word, in milliseconds. */
const quietMs = 1000
/** How long it is said that the connection is back, in milliseconds. */
const backMs = 2500

/** What the quiet line says about the connection. */
export class ConnectionStore {
  readonly state = signal<ConnectionState>({ status: 'closed' })
  readonly #isOnline = signal(navigator.onLine)
  readonly #said = signal<'nothing' | 'broken' | 'back'>('nothing')
  readonly line = computed(() => {
    const said = this.#said.value
    if (this.state.value.status === 'closed') return this.state.value.error ? 'closed' : undefined
    if (said === 'broken') return this.#isOnline.value ? 'connecting' : 'offline'
    return said === 'back' ? 'back' : undefined
  })
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(client: ChatClient) {
    const noteNetwork = () => {
      this.#isOnline.value = navigator.onLine
    }
    window.addEventListener('online', noteNetwork)
    window.addEventListener('offline', noteNetwork)
    client.on('connection', (state) => {
      const before = this.state.value.status
      this.state.value = state
      if (state.status === before) return
      clearTimeout(this.#timer)
      if (state.status === 'connecting') this.#say('broken', quietMs)
      else if (state.status === 'closed') this.#said.value = 'nothing'
      else if (this.#said.value === 'broken') {
        this.#said.value = 'back'
        this.#say('nothing', backMs)
      }
    })
  }

  get isOnline(): boolean {
    return this.state.value.status === 'online'
  }

  #say(what: 'nothing' | 'broken', afterMs: number): void {
    this.#timer = setTimeout(() => {
      this.#said.value = what
    }, afterMs)
  }
}
