import type { MessageFault, MessageStatus, Usage } from '../../schemas/messages.js'
import type { MessageRow, ReplyChange, Store } from '../stores/store.js'

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

export class ReplyState {
  constructor(
    private readonly store: Store,
    /** This process, among all that share the store. */
    readonly owner: string,
    private readonly leaseMs: number,
    /** Called with a reply that was claimed or has ended, before anybody is told. */
    private readonly onMoved: (row: MessageRow) => void,
  ) {}

  /** The end of a lease that begins now. */
  leaseUntil(): Date {
    return new Date(Date.now() + this.leaseMs)
  }

  /** A waiting reply's turn has come. Each arrow answers undefined to who lost. */
  begin(row: MessageRow): Promise<MessageRow | undefined> {
    return this.store.updateReply(
      row.id,
      { status: ['queued', 'streaming'], epoch: row.epoch, owner: this.owner },
      { status: 'streaming', leaseUntil: this.leaseUntil() },
    )
  }

  /**
   * Takes a lapsed reply over. A queued one goes on waiting; one that had begun gets a new epoch,
   * which begins at the end of `text`.
   */
  claim(
    row: MessageRow,
    text: { content: string; thinking: string },
  ): Promise<MessageRow | undefined> {
    const begun = row.status === 'streaming'
    return this.#move(
      row.id,
      { status: [row.status], epoch: row.epoch, owner: row.owner ?? null },
      {
        owner: this.owner,
        leaseUntil: this.leaseUntil(),
        ...(begun && {
          epoch: row.epoch + 1,
          epochStart: text.content.length,
          ...textChange(text),
          // A reply without an owner was handed over in order; only a dead owner counts.
          takeovers: row.takeovers + (row.owner === undefined ? 0 : 1),
        }),
      },
    )
  }

  /** Whether a lapsed reply has been taken over too often to be tried again. */
  isExhausted(row: MessageRow): boolean {
    return row.owner !== undefined && row.takeovers >= maxTakeovers
  }

  /** Gives a reply up for any process to claim at once; its text so far is kept. */
  release(
    row: MessageRow,
    text?: { content: string; thinking: string },
  ): Promise<MessageRow | undefined> {
    return this.store.updateReply(
      row.id,
      { status: ['queued', 'streaming'], epoch: row.epoch, owner: this.owner },
      { owner: null, leaseUntil: new Date(0), ...(text && textChange(text)) },
    )
  }

  /**
   * Ends a reply.
   * @param owner who must still hold it; undefined: whoever does.
   */
  end(row: MessageRow, outcome: Outcome, owner?: string | null): Promise<MessageRow | undefined> {
    return this.#move(
      row.id,
      { status: endsFrom[outcome.status], epoch: row.epoch, ...(owner !== undefined && { owner }) },
      {
        status: outcome.status,
        completedAt: outcome.completedAt ?? new Date(),
        owner: null,
        leaseUntil: null,
        ...(outcome.text && textChange(outcome.text)),
        ...(outcome.finishReason && { finishReason: outcome.finishReason }),
        ...(outcome.usage && { usage: outcome.usage }),
        ...(outcome.error && { error: outcome.error }),
      },
    )
  }

  /** Who stored the reply may have died before it could tell of it; whoever moves it does. */
  async #move(...update: Parameters<Store['updateReply']>): Promise<MessageRow | undefined> {
    const moved = await this.store.updateReply(...update)
    if (moved) this.onMoved(moved)
    return moved
  }
}

/** Whether a reply has reached its one terminal state. */
export function hasEnded(row: { status: MessageStatus }): boolean {
  return row.status !== 'queued' && row.status !== 'streaming'
}
