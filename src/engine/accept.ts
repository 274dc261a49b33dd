import { hash } from 'node:crypto'
import type { GenerationOptions } from '../../schemas/messages.js'
import { AppError } from '../errors.js'
import { derivedId, newId } from '../ids.js'
import { canThink, type ModelCatalogue, type ResolvedModel } from '../ollama/catalogue.js'
import { oneAtATime } from '../one-at-a-time.js'
import { assertFits } from '../prompt/context.js'
import type { ContextWindows } from '../prompt/context-windows.js'
import { assertWithinLimits, type OptionLimits, withinLimits } from '../prompt/option-limits.js'
import type { TokenEstimate } from '../prompt/token-estimate.js'
import { AdmissionThrottle } from '../queue/admission-throttle.js'
import type { Reservation } from '../queue/fair-queue.js'
import type { ReplyState } from '../reply/reply-state.js'
import type {
  ChatRow,
  CreatedTurn,
  FoundTurn,
  NewTurn,
  Store,
  StoredTurn,
} from '../stores/store.js'
import { within } from '../within.js'

export interface SendInput {
  userId: string
  chatId: string
  content: string
  model?: string | undefined
  options?: GenerationOptions | undefined
  /** The Idempotency-Key or the clientMessageId: the user's name for this message. */
  key?: string | undefined
  /** The chat, where the caller has just found it. */
  chat?: ChatRow
}

/** What was found out about a message that is to be stored. */
interface Known {
  id: string
  replyId: string
  fingerprint: string
  model: string
  status: 'queued' | 'streaming'
  chat: ChatRow
  /** Of this message, and else of its chat. */
  options: GenerationOptions
}

type OnStored = (turn: CreatedTurn, place: Reservation) => void

/** How long a model that is known takes to be found, in milliseconds; longer, Ollama is asked. */
const knownModelMs = 50

/** A title's longest, in UTF-16 units. */
const titleLength = 60
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

/**
 * Accepts messages: everything that can be refused is refused before anything is stored, and both
 * records are stored before anything is acknowledged.
 */
export class Accept {
  readonly #throttle = new AdmissionThrottle()
  readonly #inTurn = oneAtATime('STORE_UNAVAILABLE')
  /** The replies of turns that the store was given and has yet to answer for. */
  readonly #storing = new Set<string>()

  constructor(
    private readonly store: Store,
    private readonly state: ReplyState,
    private readonly catalogue: ModelCatalogue,
    private readonly estimate: TokenEstimate,
    private readonly windows: ContextWindows,
    private readonly limits: OptionLimits,
    private readonly reserve: (ticket: { userId: string; chatId: string }) => Promise<Reservation>,
    /** Called with a turn that may or may not be stored. */
    private readonly onUnconfirmed: (userId: string, messageId: string, replyId: string) => void,
  ) {}

  /** Whether a reply's record is on its way to the store; `onStored` will tell of it. */
  isStoring(replyId: string): boolean {
    return this.#storing.has(replyId)
  }

  /**
   * A reply that can start at once is stored as one that has begun.
   * @param onStored called with a turn that this call has stored, and with its place in the queue;
   *   a repetition of a known message calls nothing.
   * @returns the turn as it was accepted, its reply queued, or as it is where it is a known one.
   * @throws AppError CHAT_NOT_FOUND, MODEL_NOT_FOUND, MODEL_CANNOT, VALIDATION_FAILED,
   *   MESSAGE_TOO_LONG, QUEUE_FULL, USER_QUEUE_FULL, IDEMPOTENCY_KEY_REUSED, or the store's.
   */
  async accept(input: SendInput, onStored: OnStored): Promise<StoredTurn> {
    await this.#throttle.pass()
    const { userId, chatId, key } = input
    // In the order of a chat's records; and a repetition finds what it repeats, in whichever chat.
    const names = key === undefined ? [chatId] : [chatId, `${userId} ${key}`]
    let model: ResolvedModel | undefined
    for (;;) {
      const outcome = await this.#inTurn(names, () => this.#accept(input, onStored, model))
      if ('message' in outcome) return outcome
      model = await outcome.finding
    }
  }

  /** @returns the turn; or, where Ollama has to be waited for, what its answer will be. */
  async #accept(
    input: SendInput,
    onStored: OnStored,
    found: ResolvedModel | undefined,
  ): Promise<StoredTurn | { finding: Promise<ResolvedModel> }> {
    const { userId, chatId, key } = input
    const id = key === undefined ? newId() : derivedId('message', userId, key)
    const fingerprint = fingerprintOf(input)
    if (key !== undefined) {
      const known = await this.store.findTurn(userId, id)
      if (known) return { ...sameTurn(known, fingerprint), created: false }
    }

    const chat = input.chat ?? (await this.store.findChat(userId, chatId))
    if (!chat) throw new AppError('CHAT_NOT_FOUND')
    const name = input.model ?? chat.model ?? undefined
    const finding = Promise.resolve(found ?? this.catalogue.find(name))
    const model = await within(finding, knownModelMs)
    // Ollama is waited for outside of the chat's turn, which other messages need meanwhile.
    if (!model) return { finding }
    const options = this.#optionsFor(model, chat, input)
    assertFits(this.windows.of(model, options), chat.system, input.content, this.estimate)

    const place = await this.reserve({ userId, chatId })
    const status = place.toRun ? 'streaming' : 'queued'
    const replyId = newReplyId(id)
    this.#storing.add(replyId)
    try {
      const known = { id, replyId, fingerprint, model: model.name, status, chat, options } as const
      const turn = await this.store.appendTurn(this.#turn(input, known))
      if (!turn.created) return turn
      onStored(turn, place)
      return { ...turn, reply: { ...turn.reply, status: 'queued' } }
    } catch (error) {
      const isAway = error instanceof AppError && error.code === 'STORE_UNAVAILABLE'
      if (isAway) this.onUnconfirmed(userId, id, replyId)
      throw error
    } finally {
      this.#storing.delete(replyId)
      place.giveBack()
    }
  }

  /**
   * A chat's options where a message has none of its own.
   * @throws AppError VALIDATION_FAILED or MODEL_CANNOT of what the message itself asks for.
   */
  #optionsFor(model: ResolvedModel, chat: ChatRow, { options = {} }: SendInput): GenerationOptions {
    assertWithinLimits(options, this.limits, model)
    if (options.think && !canThink(model)) {
      throw new AppError('MODEL_CANNOT', {
        message: `${model.name} cannot think: leave options.think out.`,
      })
    }
    return withinLimits({ ...chat.options, ...options }, this.limits, model)
  }

  #turn({ userId, chatId, content }: SendInput, known: Known): NewTurn {
    const { id, replyId, fingerprint, model, status, chat, options } = known
    const createdAt = new Date()
    const common = { chatId, userId, createdAt, epoch: 1, epochStart: 0, takeovers: 0 }
    // Copied last: what begins as a copy and grows takes V8 ten times as long.
    return {
      title: chat.title ?? titleOf(content),
      message: { id, role: 'user', content, status: 'complete', fingerprint, ...common },
      reply: {
        id: replyId,
        role: 'assistant',
        content: '',
        status,
        model,
        owner: this.state.owner,
        leaseUntil: this.state.leaseUntil(),
        ...(Object.keys(options).length > 0 && { options }),
        ...common,
      },
    }
  }
}

/**
 * The id of a new reply to a message. It begins like the message's: an index has the two side by
 * side. It never comes again, though a message's does when its key is used after its chat's end.
 */
const newReplyId = (messageId: string) => messageId.slice(0, 8) + newId().slice(8)

/** @throws AppError IDEMPOTENCY_KEY_REUSED when the key was used for something else. */
function sameTurn(turn: FoundTurn, fingerprint: string): FoundTurn {
  if (turn.message.fingerprint !== fingerprint) throw new AppError('IDEMPOTENCY_KEY_REUSED')
  return turn
}

function fingerprintOf({ chatId, content, model, options }: SendInput): string {
  const sorted = Object.entries(options ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  return hash('sha256', JSON.stringify([chatId, content, model ?? null, sorted]), 'base64url')
}

/** A message's first words, cut between graphemes. */
function titleOf(content: string): string {
  const line = content.trim().replace(/\s+/g, ' ')
  if (line.length <= titleLength) return line || '…'
  let end = 0
  // With more than fits, so that what joins the last grapheme is seen.
  for (const { index, segment } of graphemes.segment(line.slice(0, titleLength + 2))) {
    if (index + segment.length > titleLength - 1) break
    end = index + segment.length
  }
  const cut = line.slice(0, end)
  const lastSpace = cut.lastIndexOf(' ')
  return `${lastSpace > titleLength / 2 ? cut.slice(0, lastSpace) : cut}…`
}
