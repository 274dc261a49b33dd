import type { Cache } from '../cache/cache.js'

/**
 * The other servers, to which this one tells news. It may come late, and of long absences not at
 * all: whoever lives by it looks into the stream log or the store now and then.
 */
export class ClusterBus {
  constructor(
    private readonly cache: Cache,
    /** This server's id, by which it knows its own news. */
    private readonly self: string,
  ) {}

  tell(channel: string, news: object): void {
    void this.cache.publish(channel, this.self + JSON.stringify(news))
  }

  /** Tells what is worth nothing later; it may be lost. */
  tellLive(channel: string, news: object): void {
    void this.cache.publishLive(channel, this.self + JSON.stringify(news))
  }

  /** @returns the way to stop hearing, once news is heard. */
  hear<News extends object>(
    channel: string,
    listener: (news: News) => void,
  ): Promise<() => Promise<void>> {
    return this.cache.subscribe(channel, (text) => {
      if (!text.startsWith(this.self)) listener(JSON.parse(text.slice(this.self.length)) as News)
    })
  }
}
