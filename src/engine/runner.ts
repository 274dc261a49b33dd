import { setTimeout as delay } from 'node:timers/promises'
import type { MessageFault, Usage } from '../../schemas/messages.js'
import { AppError } from '../errors.js'
import { canThink, type ModelCatalogue } from '../ollama/catalogue.js'
import type { ChatResult, OllamaClient } from '../ollama/client.js'
import { Outage } from '../outage.js'
import { droppedByOllama, fitContext, type Prompt } from '../prompt/context.js'
import type { ContextWindows } from '../prompt/context-windows.js'
import type { DeterministicReplies } from '../prompt/deterministic.js'
import { mostTokens, type OptionLimits, withinLimits } from '../prompt/option-limits.js'
import type { TokenEstimate } from '../prompt/token-estimate.js'
import type { ChatEvents } from '../reply/chat-events.js'
import type { Interruption, LiveReply } from '../reply/live-reply.js'
import { presentMessage, presentStart } from '../reply/present.js'
import type { Outcome, ReplyState } from '../reply/reply-state.js'
import type { MessageRow, Store } from '../stores/store.js'
import { unlessAborted } from '../within.js'
import type { Flusher } from './flusher.js'

/** Between tries while the store is away, in milliseconds. */
const storeRetryMs = { first: 100, longest: 2000 }

/** A reply that grows beyond this, in UTF-16 units, is ended. */
const maxReplyUnits = 4_000_000

const overlong: MessageFault = {
  code: 'MODEL_FAILED',
  message: `The model did not end its reply within ${maxReplyUnits} characters: set options.num_predict.`,
}

interface Log {
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

interface Parts {
  store: Store
  state: ReplyState
  chatEvents: ChatEvents
  flusher: Flusher
  client: OllamaClient
  catalogue: ModelCatalogue
  known: DeterministicReplies
  estimate: TokenEstimate
  windows: ContextWindows
  limits: OptionLimits
  log: Log
}

/** What a complete reply ends with. */
type Generated = Required<Pick<Outcome, 'finishReason' | 'usage'>>

/** Runs one reply from its turn in the queue to its one terminal state. */
export class Runner {
  readonly #outage: Outage

  constructor(private readonly parts: Parts) {
    this.#outage = new Outage(parts.log, {
      failing: 'the end of a reply could not be stored; trying again until the database takes it',
      over: 'ends of replies are stored again',
    })
  }

  /** Resolves when the reply has ended or was lost or released; never rejects. */
  async run(reply: LiveReply): Promise<void> {
    const { state, chatEvents, log } = this.parts
    let outcome: Outcome
    try {
      const begun = reply.begunIn
        ? reply.row
        : await this.#fromStore(reply, () => state.begin(reply.row))
      if (!begun) return reply.finish(undefined)
      reply.begin(begun)
      chatEvents.toChat(reply.chatId, 'message-start', presentStart(begun))
      reply.signal.throwIfAborted()
      outcome = { status: 'complete', ...(await this.#generate(reply)) }
    } catch (error) {
      if (reply.interruption) return this.#endInterrupted(reply, reply.interruption)
      const fault = faultOf(error)
      const level = fault.code === 'INTERNAL' ? 'error' : 'info'
      log[level]({ err: error, replyId: reply.id }, 'a reply failed')
      outcome = { status: 'error', error: fault }
    }
    await this.#end(reply, outcome)
  }

  /** Ends a reply that was interrupted while it waited. */
  async endWaiting(reply: LiveReply): Promise<void> {
    if (reply.interruption) await this.#endInterrupted(reply, reply.interruption)
  }

  #endInterrupted(reply: LiveReply, why: Interruption): Promise<void> {
    switch (why) {
      case 'stopped':
        return this.#end(reply, { status: 'stopped' })
      case 'overlong':
        return this.#end(reply, { status: 'error', error: overlong })
      case 'released':
        return this.#release(reply)
      case 'lost':
        return this.#forget(reply)
    }
  }

  async #forget(reply: LiveReply): Promise<void> {
    this.parts.flusher.forget(reply)
    reply.finish(undefined)
  }

  /**
   * Ends a reply that this process holds: what is pending is announced, the end is stored, then
   * told. A store that is away is asked until it answers, since what was generated must be kept.
   */
  async #end(reply: LiveReply, outcome: Outcome): Promise<void> {
    const { state, chatEvents, flusher, log } = this.parts
    reply.isEnding = true
    const text = { content: reply.text.whole, thinking: reply.thinking.whole }
    const completedAt = new Date()
    for (let retryMs = storeRetryMs.first; ; retryMs = nextRetryMs(retryMs)) {
      try {
        const end = { ...outcome, completedAt, text }
        const ended =
          (await state.end(reply.row, end, state.owner)) ??
          (retryMs > storeRetryMs.first ? await this.#storedEnd(reply, completedAt) : undefined)
        this.#outage.over()
        if (ended) {
          flusher.announce(reply)
          chatEvents.toChat(reply.chatId, 'message', presentMessage(ended))
          log.info(
            { replyId: reply.id, chatId: reply.chatId, status: ended.status, epoch: ended.epoch },
            'reply ended',
          )
        } else flusher.forget(reply)
        return reply.finish(ended)
      } catch (error) {
        this.#outage.failed(error, { replyId: reply.id })
        // Who comes next finds the checkpoint.
        if (reply.isGivenUp) return this.#forget(reply)
        await delay(retryMs, undefined, { ref: false })
      }
    }
  }

  /** The record, where it is this very end that is stored: its answer was lost. */
  async #storedEnd({ row }: LiveReply, completedAt: Date): Promise<MessageRow | undefined> {
    const stored = await this.parts.store.findMessage(row.userId, row.chatId, row.id)
    const isOwn = stored?.completedAt?.getTime() === completedAt.getTime()
    return isOwn && stored.epoch === row.epoch ? stored : undefined
  }

  /**
   * What a reply needs of the store before it can run. A reply that was accepted does not fail
   * because the store is away: it is asked until it answers, or the reply is interrupted.
   */
  async #fromStore<T>(reply: LiveReply, ask: () => Promise<T>): Promise<T> {
    for (let retryMs = storeRetryMs.first; ; retryMs = nextRetryMs(retryMs)) {
      try {
        return await ask()
      } catch (error) {
        const isAway = error instanceof AppError && error.code === 'STORE_UNAVAILABLE'
        if (!isAway || reply.signal.aborted) throw error
        await unlessAborted(delay(retryMs, undefined, { ref: false }), reply.signal)
      }
    }
  }

  async #release(reply: LiveReply): Promise<void> {
    const { state, flusher, log } = this.parts
    flusher.announce(reply)
    try {
      await state.release(reply.row, reply.kept)
    } catch (error) {
      // The lease lapses by itself then.
      log.error({ err: error, replyId: reply.id }, 'a reply could not be handed over')
    }
    reply.finish(undefined)
  }

  async #generate(reply: LiveReply): Promise<Generated> {
    const { catalogue, client, estimate, known, limits, store, windows } = this.parts
    const model = await unlessAborted(catalogue.find(reply.row.model), reply.signal)
    const options = withinLimits(reply.row.options ?? {}, limits, model)
    const window = windows.of(model, options)
    const prompt = await this.#fromStore(reply, async () => {
      const chat = reply.begunIn ?? (await store.findChat(reply.userId, reply.chatId))
      if (!chat) throw new AppError('CHAT_NOT_FOUND')
      return fitContext(store, chat, reply.seq, window, estimate)
    })
    const sent = {
      contextLength: window.contextLength,
      messagesSent: prompt.messages.length,
      messagesDropped: prompt.dropped,
    }
    const begun = reply.text.whole
    /** Of earlier runs, which count although their process died. */
    const earlierTokens = reply.tokens.kept + reply.tokens.discarded
    const tokensLeft = mostTokens(options, limits, model) - reply.tokens.kept
    if (begun && tokensLeft <= 0) {
      return { finishReason: 'length', usage: { ...sent, replyTokens: earlierTokens } }
    }

    const { userId } = reply
    const name = known.nameOf({ userId, digest: model.digest, messages: prompt.messages, options })
    const answer = name && !begun ? await known.find(name) : undefined
    reply.signal.throwIfAborted()
    if (answer) {
      this.#receive(reply, answer.content, answer.thinking)
      const { finishReason = 'stop' } = answer
      const usage = { ...answer.usage, ...sent, cached: true }
      return { finishReason, usage: withEarlier(usage, earlierTokens) }
    }

    const { think, ...ollamaOptions } = options
    const clock = new ReplyClock()
    const result = await client.chat(
      {
        model: model.name,
        messages: begun
          ? [...prompt.messages, { role: 'assistant', content: begun }]
          : prompt.messages,
        options: { ...ollamaOptions, num_predict: tokensLeft },
        // Ollama refuses it of a model that cannot think.
        ...(think !== undefined && canThink(model) && { think }),
      },
      (content, thinking) => {
        // The server that goes on with the reply asks for the rest again.
        if (reply.isGivenUp) return
        clock.note(content)
        reply.tokens.kept++
        this.#receive(reply, content, thinking)
      },
      reply.signal,
      // A model that is loaded with another window is loaded again.
      !model.isLoaded || window.contextLength !== (model.contextLength ?? window.contextLength),
    )
    const usage = { ...sent, ...usageOf(result), ...clock.times() }
    const finishReason = finishReasonOf(result, reply.text.length)
    if (model.contextLength === undefined) {
      // It was loaded for this request, whose window nobody could know before.
      const contextLength = await catalogue.loadedWindow(model.name)
      usage.contextLength = windows.of({ ...model, contextLength }, options).contextLength
    }
    // What Ollama says of a begun answer's prompt has that answer in it.
    if (!begun) {
      const loaded = { key: window.key, contextLength: usage.contextLength }
      const cut = droppedByOllama(prompt, result.promptTokens, loaded, estimate)
      usage.messagesSent -= cut
      usage.messagesDropped += cut
      this.#learn(window.key, prompt, result, cut === 0)
    }
    if (name && !begun) {
      const reply_ = { content: reply.text.whole, thinking: reply.thinking.whole }
      await known.remember(name, { ...reply_, finishReason, usage })
    }
    return { finishReason, usage: withEarlier(usage, earlierTokens) }
  }

  #receive(reply: LiveReply, content: string, thinking: string): void {
    const isFirst = reply.isSilent
    reply.append(content, thinking)
    if (reply.text.received + reply.thinking.received > maxReplyUnits) reply.interrupt('overlong')
    this.parts.flusher.add(reply, isFirst)
  }

  #learn(model: string, prompt: Prompt, { promptTokens }: ChatResult, isWhole: boolean): void {
    if (promptTokens === undefined) return
    const texts = prompt.messages.map((message) => message.content)
    this.parts.estimate.learn(model, texts, promptTokens, isWhole)
  }
}

const nextRetryMs = (ms: number) => Math.min(ms * 2, storeRetryMs.longest)

function usageOf(result: ChatResult): Partial<Usage> {
  const { doneReason: _, calledTools: __, ...usage } = result
  const { replyTokens, replyMs } = usage
  if (!replyTokens || !replyMs) return usage
  return { ...usage, tokensPerSecond: Math.round((replyTokens / replyMs) * 100_000) / 100 }
}

/** The usage with the tokens that earlier runs of the reply took; their speed is not known. */
function withEarlier(usage: Usage, earlierTokens: number): Usage {
  const { replyTokens = 0 } = usage
  return earlierTokens === 0 ? usage : { ...usage, replyTokens: replyTokens + earlierTokens }
}

/** How a reply ended: a reply without text, whatever Ollama says of it, is empty or was cut short. */
function finishReasonOf({ doneReason = 'stop', calledTools }: ChatResult, units: number): string {
  if (calledTools && doneReason === 'stop') return 'tool_calls'
  if (units === 0 && doneReason !== 'length') return 'empty'
  return doneReason
}

/** When a reply's first output and its first text came. */
class ReplyClock {
  readonly #startedAt = performance.now()
  #firstAt: number | undefined
  #textAt: number | undefined

  note(content: string): void {
    const now = performance.now()
    this.#firstAt ??= now
    if (content !== '') this.#textAt ??= now
  }

  times(): Pick<Usage, 'firstTokenMs' | 'thinkingMs'> {
    if (this.#firstAt === undefined) return {}
    const thinkingMs = (this.#textAt ?? performance.now()) - this.#firstAt
    return {
      firstTokenMs: Math.round(this.#firstAt - this.#startedAt),
      ...(thinkingMs > 0 && { thinkingMs: Math.round(thinkingMs) }),
    }
  }
}

function faultOf(error: unknown): MessageFault {
  const known = error instanceof AppError ? error : new AppError('INTERNAL', { cause: error })
  return { code: known.code, message: known.message }
}
