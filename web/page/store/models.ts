import { computed, signal } from '@preact/signals'
import { type ChatClient, ChatError, type LanguageModel } from '../../client/index.js'

/** The models that can answer. */
export class ModelsStore {
  readonly list = signal<readonly LanguageModel[]>()
  readonly error = signal<ChatError>()
  /** Whether the embedded ELIZA answers, since no Ollama is connected. */
  readonly isEliza = computed(
    () =>
      this.list.value?.length === 1 &&
      this.list.value.every(({ details }) => details.family === 'eliza'),
  )
  readonly #client: ChatClient

  constructor(client: ChatClient) {
    this.#client = client
  }

  async load(): Promise<void> {
    try {
      this.list.value = await this.#client.rest.models()
      this.error.value = undefined
    } catch (error) {
      if (!(error instanceof ChatError)) throw error
      this.error.value = error
    }
  }
}
