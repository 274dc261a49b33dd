import type { Usage } from '../../schemas/messages.js'
import { AppError } from '../errors.js'
import { canThink, type ModelCatalogue } from '../ollama/catalogue.js'
import type { ChatResult, OllamaClient } from '../ollama/client.js'
import { droppedByOllama, fitContext, type Prompt } from '../prompt/context.js'
import type { ContextWindows } from '../prompt/context-windows.js'
import type { DeterministicReplies } from '../prompt/deterministic.js'
import { mostTokens, type OptionLimits, withinLimits } from '../prompt/option-limits.js'
import type { TokenEstimate } from '../prompt/token-estimate.js'
import type { LiveReply } from '../reply/live-reply.js'
import type { Outcome } from '../reply/reply-state.js'
import { retry } from '../retry.js'
import type { Store } from '../stores/store.js'
import { unlessAborted } from '../within.js'
import type { Flusher } from './flusher.js'

/** Between tries to ask a store that is away, in milliseconds. */
const storeRetryMs = { first: 100, longest: 2000 }

/** A reply that grows beyond this, in UTF-16 units, is ended. */
export const maxReplyUnits = 4_000_000

interface Parts {
  store: Pick<Store, 'findChat' | 'listTexts'>
  client: OllamaClient
  catalogue: ModelCatalogue
  known: DeterministicReplies
  estimate: TokenEstimate
  windows: ContextWindows
  limits: OptionLimits
  flusher: Flusher
}

/** The fields of a record that a complete reply's end sets. */
type Generated = Required<Pick<Outcome, 'finishReason' | 'usage'>>

/** Has the model write a reply: fits the prompt, asks Ollama, and lets the reply grow. */
export class ReplyGenerator {
  constructor(private readonly parts: Parts) {}

  /** @throws AppError of the store or of Ollama, or the reply's interruption. */
  async generate(reply: LiveReply): Promise<Generated> {
    const { catalogue, client, estimate, known, limits, store, windows } = this.parts
    const model = await unlessAborted(catalogue.find(reply.row.model), reply.signal)
    const options = withinLimits(reply.row.options ?? {}, limits, model)
    const window = windows.of(model, options)
    const prompt = await untilStoreAnswers(reply, async () => {
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
    /** Tokens of earlier runs, which count although their process died. */
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
        // Ollama refuses `think` for a model that cannot.
        ...(think !== undefined && canThink(model) && { think }),
      },
      (content, thinking) => {
        // The process that goes on with the reply asks for the rest again.
        if (reply.isGivenUp) return
        clock.note(content)
        reply.tokens.kept++
        this.#receive(reply, content, thinking)
      },
      reply.signal,
      // Ollama loads a model again for another window.
      !model.isLoaded || window.contextLength !== (model.contextLength ?? window.contextLength),
    )
    const usage = { ...sent, ...usageOf(result), ...clock.times() }
    const finishReason = finishReasonOf(result, reply.text.length)
    if (model.contextLength === undefined) {
      // The model was loaded for this request, so its window was not known before.
      const contextLength = await catalogue.loadedWindow(model.name)
      usage.contextLength = windows.of({ ...model, contextLength }, options).contextLength
    }
    // When a begun answer was sent, Ollama's count of the prompt includes it.
    if (!begun) {
      const loaded = { key: window.key, contextLength: usage.contextLength }
      const cut = droppedByOllama(prompt, result.promptTokens, loaded, estimate)
      usage.messagesSent -= cut
      usage.messagesDropped += cut
      this.#learn(window.key, prompt, result, cut === 0)
    }
    if (name && !begun) {
      const text = { content: reply.text.whole, thinking: reply.thinking.whole }
      await known.remember(name, { ...text, finishReason, usage })
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

/** Asks a store that is away until it answers, or until the reply is interrupted. */
export function untilStoreAnswers<T>(reply: LiveReply, ask: () => Promise<T>): Promise<T> {
  return retry(ask, {
    pauses: storeRetryMs,
    signal: reply.signal,
    mayRetry: (error) =>
      error instanceof AppError && error.code === 'STORE_UNAVAILABLE' && !reply.signal.aborted,
  })
}

function usageOf(result: ChatResult): Partial<Usage> {
  const { doneReason: _, calledTools: __, ...usage } = result
  const { replyTokens, replyMs } = usage
  if (!replyTokens || !replyMs) return usage
  return { ...usage, tokensPerSecond: Math.round((replyTokens / replyMs) * 100_000) / 100 }
}

/** The usage with the tokens of earlier runs of the reply, whose speed is not known. */
function withEarlier(usage: Usage, earlierTokens: number): Usage {
  const { replyTokens = 0 } = usage
  return earlierTokens === 0 ? usage : { ...usage, replyTokens: replyTokens + earlierTokens }
}

/** Why the model ended; a reply without text is `empty`, unless it was cut short or called tools. */
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
    if (this.#textAt !== undefined) return
    const now = performance.now()
    this.#firstAt ??= now
    if (content !== '') this.#textAt = now
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
