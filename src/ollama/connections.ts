import type { Client } from 'undici'
import { AppError } from '../errors.js'

/**
 * Connections to Ollama, each for one request at a time; some are kept for later requests. undici's
 * own pool reconnects after an abort although it has nothing to send.
 */
export class Connections {
  readonly #idle: Client[] = []
  readonly #all = new Set<Client>()
  #closed = false

  /** @param kept how many idle connections are kept. */
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

  /** Takes back a connection whose answer is complete. */
  giveBack(client: Client): void {
    if (this.#idle.length < this.kept && !client.destroyed) this.#idle.push(client)
    else this.end(client)
  }

  /** Closes a connection, and ends its request. */
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
