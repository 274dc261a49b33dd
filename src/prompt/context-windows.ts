import { LRUCache } from 'lru-cache'
import type { GenerationOptions } from '../../schemas/messages.js'
import type { Cache } from '../cache/cache.js'
import type { ResolvedModel } from '../ollama/catalogue.js'
import type { Window } from './context.js'
import { LearntNumbers } from './learnt-numbers.js'

/** What Ollama loads a model with, where neither it nor the request says. */
const usualContextLength = 4096
/** Ollama unloads a model after five minutes, and what it says of it is a little old. */
const askedMs = 10 * 60_000

type WindowFacts = Pick<
  ResolvedModel,
  'name' | 'digest' | 'contextLength' | 'trainedContextLength' | 'numCtx'
>

/**
 * The window that a request will have: the one it asks for, else the one its model is loaded with,
 * else the one of its Modelfile.
 * Ollama reloads a model for a request with another window, and again for the next without one, so a
 * window that one request asked for is not what others get.
 */
export class ContextWindows {
  /** Windows that requests asked for lately, by model and length. */
  readonly #asked = new LRUCache<string, true>({ max: 1000, ttl: askedMs })
  /** The window that each model was last loaded with when no request asked for one. */
  readonly #own: LearntNumbers

  constructor(cache: Cache) {
    this.#own = new LearntNumbers(cache, 'window')
  }

  of(model: WindowFacts, { num_ctx, num_predict }: GenerationOptions): Window {
    const { name, contextLength: loaded, trainedContextLength = Number.POSITIVE_INFINITY } = model
    // A model that was rebuilt under its name may have another window.
    const key = model.digest || name
    if (num_ctx !== undefined) this.#asked.set(keyOf(key, num_ctx), true)
    else if (loaded !== undefined && !this.#asked.has(keyOf(key, loaded))) {
      this.#own.set(key, loaded)
    }
    const wanted = num_ctx ?? this.#own.get(key) ?? model.numCtx ?? usualContextLength
    return {
      model: name,
      key,
      contextLength: Math.min(wanted, trainedContextLength),
      maxReplyTokens: num_predict !== undefined && num_predict > 0 ? num_predict : undefined,
    }
  }
}

const keyOf = (model: string, contextLength: number) => `${contextLength} ${model}`
