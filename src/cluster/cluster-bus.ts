import type { Cache } from '../cache/cache.js'

/** The requests that servers make of each other. */
export type ClusterMessage =
  | { watch: string }
  | { stop: string }
  | { dropChat: string }
  /** A slot at Ollama was given back. */
  | { freed: true }
  /** A server that shuts down released its replies. */
  | { handedOver: true }

/**
 * Messages between servers. They may come late, and are lost in long outages: receivers look into
 * the stream log or the store now and then.
 */
export class ClusterBus {
  constructor(
    private readonly cache: Cache,
    /** This server's id, by which it knows its own messages. */
    private readonly self: string,
  ) {}

  /** Delivered again when the connection was lost for a while. */
  tell(channel: string, message: object): void {
    void this.cache.publish(channel, this.self + JSON.stringify(message))
  }

  /** For messages that are worth nothing later: they may be lost. */
  tellLive(channel: string, message: object): void {
    void this.cache.publishLive(channel, this.self + JSON.stringify(message))
  }

  /** @returns the way to stop listening, once the subscription is open. */
  hear<Message extends object>(
    channel: string,
    listener: (message: Message) => void,
  ): Promise<() => Promise<void>> {
    return this.cache.subscribe(channel, (text) => {
      if (text.startsWith(this.self)) return
      listener(JSON.parse(text.slice(this.self.length)) as Message)
    })
  }
}
