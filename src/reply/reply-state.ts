import type { MessageFault, MessageStatus, Usage } from '../../schemas/messages.js'
import type { Cache } from '../cache/cache.js'
import { chatsState } from '../cache/keys.js'
import { forget } from '../cache/read-through.js'
import type { StreamLog } from '../cache/stream-log.js'
import type { MessageRow, ReplyChange, ReplyCondition, Store } from '../stores/store.js'
import type { HeldReplies } from './held-replies.js'
import { hasEnded, type KeptText } from './live-reply.js'

/*
 * The life of a reply, and the only place that moves it:
 *
 *   queued ──begin──▶ streaming ──end──▶ complete | stopped | interrupted | error
 *     │  ▲              │  ▲
 *     │  └─claim/release┘  └─claim (a new epoch), release
 *     └──end──▶ stopped | interrupted | error
 *
 * A reply that can begin at once is stored as `streaming` in the first place. Every arrow is one
 * conditional update of the message's record. Whoever's update finds the record as it expects has
 * won; everybody else learns that it lost and says nothing to anyone.
 */

type EndStatus = 'complete' | 'stopped' | 'interrupted' | 'error'

const endsFrom: Readonly<Record<EndStatus, readonly MessageStatus[]>> = {
  complete: ['streaming'],
  stopped: ['queued', 'streaming'],
  interrupted: ['queued', 'streaming'],
  error: ['queued', 'streaming'],
}

/** A reply that was taken over this often is not tried again. */
const maxTakeovers = 3

export interface Outcome {
  status: EndStatus
  /** Of a complete reply. */
  finishReason?: string
  usage?: Usage
  error?: MessageFault
  /** When it ended, by which the end that a caller stores is known; left out: now. */
  completedAt?: Date
  /** What the reply has in the end; left out: what is stored. */
  text?: { content: string; thinking: string }
}

const textChange = ({ content, thinking }: { content: string; thinking: string }): ReplyChange => ({
  content,
  thinking: thinking || null,
})

/** Nothing has happened to a lapsed reply since it was found; one that has ended never matches. */
const lapsedAsFound = ({ status, epoch, owner, leaseUntil }: MessageRow): ReplyCondition => ({
  status: hasEnded({ status }) ? [] : [status],
  epoch,
  owner: owner ?? null,
  ...(leaseUntil && { leaseUntil }),
})

const ending = ({
  status,
  completedAt,
  text,
  finishReason,
  usage,
  error,
}: Outcome): ReplyChange => ({
  status,
  completedAt: completedAt ?? new Date(),
  owner: null,
  leaseUntil: null,
  tokens: null,
  ...(text && textChange(text)),
  ...(finishReason && { finishReason }),
  ...(usage && { usage }),
  ...(error && { error }),
})

interface Parts {
  store: Pick<Store, 'updateReply'>
  cache: Cache
  streamLog: StreamLog | undefined
  held: HeldReplies
  /** This process's id, among all that share the store. */
  owner: string
  leaseMs: number
}

export class ReplyState {
  readonly owner: string

  constructor(private readonly parts: Parts) {
    this.owner = parts.owner
  }

  /** The end of a lease that begins now. */
  leaseUntil(): Date {
    return new Date(Date.now() + this.parts.leaseMs)
  }

  /** A waiting reply's turn has come. Each arrow answers undefined to who lost. */
  begin(row: MessageRow): Promise<MessageRow | undefined> {
    return this.parts.store.updateReply(
      row.id,
      { status: ['queued', 'streaming'], epoch: row.epoch, owner: this.owner },
      { status: 'streaming', leaseUntil: this.leaseUntil() },
    )
  }

  /**
   * Takes a lapsed reply over. A queued one goes on waiting; one that had begun gets a new epoch,
   * which begins at the end of `text`.
   */
  claim(row: MessageRow, text: KeptText): Promise<MessageRow | undefined> {
    const begun = row.status === 'streaming'
    return this.#move(row.id, lapsedAsFound(row), {
      owner: this.owner,
      leaseUntil: this.leaseUntil(),
      ...(begun && {
        epoch: row.epoch + 1,
        epochStart: text.content.length,
        ...textChange(text),
        tokens: text.tokens,
        takeovers: row.takeovers + (this.#isOwnerDead(row) ? 1 : 0),
      }),
    })
  }

  /** Whether a lapsed reply has been taken over too often to be tried again. */
  isExhausted(row: MessageRow): boolean {
    return this.#isOwnerDead(row) && row.takeovers >= maxTakeovers
  }

  /** Whether its owner died with it: not where it was handed over in order, or is this process. */
  #isOwnerDead({ owner }: MessageRow): boolean {
    return owner !== undefined && owner !== this.owner
  }

  /** Gives a reply up for any process to claim at once; its text so far is kept. */
  release(row: MessageRow, text: KeptText): Promise<MessageRow | undefined> {
    return this.parts.store.updateReply(
      row.id,
      { status: ['queued', 'streaming'], epoch: row.epoch, owner: this.owner },
      { owner: null, leaseUntil: new Date(0), ...textChange(text), tokens: text.tokens },
    )
  }

  /**
   * Ends a reply.
   * @param owner who must still hold it.
   */
  end(row: MessageRow, outcome: Outcome, owner: string | null): Promise<MessageRow | undefined> {
    const condition = { status: endsFrom[outcome.status], epoch: row.epoch, owner }
    return this.#move(row.id, condition, ending(outcome))
  }

  /** Ends a reply whose lease is over, unless its owner renews that first. */
  endLapsed(row: MessageRow, outcome: Outcome): Promise<MessageRow | undefined> {
    return this.#move(row.id, lapsedAsFound(row), ending(outcome))
  }

  /** Makes a claim or an end known in this process before anybody is told of it. */
  async #move(...update: Parameters<Store['updateReply']>): Promise<MessageRow | undefined> {
    const { store, cache, streamLog, held } = this.parts
    const moved = await store.updateReply(...update)
    if (!moved) return undefined
    void forget(cache, chatsState(moved.userId))
    // The log of a reply that is held here is closed by its writer; of others the holder may be dead.
    if (hasEnded(moved) && !held.has(moved.id)) void streamLog?.close(moved.id, moved.epoch)
    held.noteEnded(moved)
    return moved
  }
}

/** The longest text kept of an unfinished reply: its checkpoint, and what the stream log adds. */
export async function keptText(row: MessageRow, log: StreamLog | undefined): Promise<KeptText> {
  const { content, thinking = '', tokens = { kept: 0, discarded: 0 } } = row
  const known = { content: content.length, thinking: thinking.length }
  const more = await log?.read(row.id, row.epoch, known)
  if (!more) return { content, thinking, tokens }
  return {
    content: content + more.content,
    thinking: thinking + more.thinking,
    tokens: { ...tokens, kept: more.tokens ?? tokens.kept },
  }
}
