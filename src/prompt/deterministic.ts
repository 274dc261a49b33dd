import { hash } from 'node:crypto'
import type { GenerationOptions, Usage } from '../../schemas/messages.js'
import type { Cache } from '../cache/cache.js'
import { deterministicReplies, deterministicReplyKey } from '../cache/keys.js'
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

type Kept = KnownReply & { fingerprint: string }

interface RequestName {
  /** The slot in the cache, shared with other requests. */
  key: { key: string; ttlMs: number }
  fingerprint: string
}

/** Longer replies are not cached. */
const maxUnits = 256 * 1024

/** Replies to requests that the same user has sent to the same model before, where only one answer is possible. */
export class DeterministicReplies {
  constructor(private readonly cache: Cache) {}

  /** The name of a request with only one possible answer; undefined for others. */
  nameOf({ userId, digest, messages, options }: Request): RequestName | undefined {
    if (options.temperature !== 0 || options.seed === undefined) return undefined
    // Without a digest nothing says which model it is.
    if (digest === '') return undefined
    const sorted = Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1))
    const text = JSON.stringify([userId, digest, sorted, messages.map((m) => [m.role, m.content])])
    const fingerprint = hash('sha256', text, 'hex')
    const place = Number.parseInt(fingerprint.slice(0, 8), 16) % deterministicReplies
    return { key: deterministicReplyKey(userId, place), fingerprint }
  }

  async find({ key: { key }, fingerprint }: RequestName): Promise<KnownReply | undefined> {
    const text = await this.cache.get(key)
    const known = text === undefined ? undefined : (JSON.parse(text) as Kept)
    // Another request may have taken the slot.
    return known?.fingerprint === fingerprint ? known : undefined
  }

  async remember({ key, fingerprint }: RequestName, reply: KnownReply): Promise<void> {
    if (reply.content.length + reply.thinking.length > maxUnits) return
    const kept: Kept = { ...reply, fingerprint }
    await this.cache.set(key.key, JSON.stringify(kept), key.ttlMs)
  }
}

/** Removes all that is cached of a user's replies. */
export async function forgetReplies(cache: Cache, userId: string): Promise<void> {
  const slots = Array.from({ length: deterministicReplies }, (_, place) => place)
  await Promise.all(slots.map((place) => cache.delete(deterministicReplyKey(userId, place).key)))
}
