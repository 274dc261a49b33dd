import type { Client } from 'undici'
import { AppError } from '../errors.js'

/**
 * Connections to Ollama, each for one request at a time and some kept for later ones. undici's pool
 * would connect again after an abort, with nothing to send.
 */
export class Connections {
  readonly #idle: Client[] = []
  readonly #all = new Set<Client>()
  #closed = false

  /** @param kept how many are kept that nothing uses. */
  constructor(
    private readonly connect: () => Client,
    private readonly kept: number,
  ) {}

  /** A connection for one request, to be given back or ended. @throws AppError SHUTTING_DOWN. */
  take(): Client {
    if (this.#closed) throw new AppError('SHUTTING_DOWN')
    const client = this.#idle.pop() ?? this.connect()
    this.#all.add(client)
    return client
  }

  /** After a request whose answer came whole. */
  giveBack(client: Client): void {
    if (this.#idle.length < this.kept && !client.destroyed) this.#idle.push(client)
    else this.end(client)
  }

  /** Closes a connection, whatever it is about. */
  end(client: Client): void {
    this.#all.delete(client)
    void client.destroy()
  }

  /** Ends every request with SHUTTING_DOWN. */
  async close(): Promise<void> {
    this.#closed = true
    const reason = new AppError('SHUTTING_DOWN')
    await Promise.all([...this.#all].map((client) => client.destroy(reason)))
    this.#all.clear()
  }
}
