import { hash } from 'node:crypto'
import type { GenerationOptions, Usage } from '../../schemas/messages.js'
import type { Cache } from '../cache/cache.js'
import { deterministicReplyKey } from '../cache/keys.js'
import type { PromptMessage } from './context.js'

interface Request {
  userId: string
  /** Of the model's weights and template. */
  digest: string
  messages: readonly PromptMessage[]
  options: GenerationOptions
}

export interface KnownReply {
  content: string
  thinking: string
  /** Left out by earlier versions. */
  finishReason?: string
  usage: Usage
}

/** Longer replies are generated again, rather than cached. */
const maxUnits = 256 * 1024

/** A user's own replies that need no generation: the user asked the same model the very same before. */
export class DeterministicReplies {
  constructor(private readonly cache: Cache) {}

  /** The key of a request whose answer can only be one; undefined for any other. */
  keyOf({ userId, digest, messages, options }: Request): string | undefined {
    if (options.temperature !== 0 || options.seed === undefined) return undefined
    // Without a digest nothing says which model it is.
    if (digest === '') return undefined
    const sorted = Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1))
    const text = JSON.stringify([userId, digest, sorted, messages.map((m) => [m.role, m.content])])
    return hash('sha256', text, 'base64url')
  }

  async find(key: string): Promise<KnownReply | undefined> {
    const known = await this.cache.get(deterministicReplyKey(key).key)
    return known === undefined ? undefined : (JSON.parse(known) as KnownReply)
  }

  async remember(key: string, reply: KnownReply): Promise<void> {
    if (reply.content.length + reply.thinking.length > maxUnits) return
    const { key: cacheKey, ttlMs } = deterministicReplyKey(key)
    await this.cache.set(cacheKey, JSON.stringify(reply), ttlMs)
  }
}
