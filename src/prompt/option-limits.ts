import type { GenerationOptions } from '../../schemas/messages.js'
import { invalid } from '../errors.js'
import type { ResolvedModel } from '../ollama/catalogue.js'

/** The operator's bounds of what one request may ask of Ollama. */
export interface OptionLimits {
  maxNumCtx: number
  maxNumPredict: number
}

type Model = Pick<ResolvedModel, 'name' | 'trainedContextLength' | 'numPredict'>

/**
 * Checks that options which a client sends are within their bounds.
 * @param model its bounds hold too; undefined if it is not known.
 * @throws AppError VALIDATION_FAILED that names the bound.
 */
export function assertWithinLimits(
  { num_ctx = 0, num_predict = 0 }: GenerationOptions,
  { maxNumCtx, maxNumPredict }: OptionLimits,
  model: Model | undefined,
): void {
  const trained = model?.trainedContextLength ?? Number.POSITIVE_INFINITY
  const ofModel = trained < maxNumCtx
  const faults = [
    ...(num_ctx > Math.min(maxNumCtx, trained)
      ? [
          ofModel
            ? fault('num_ctx', trained, `the context length of ${model?.name}`)
            : fault('num_ctx', maxNumCtx, 'the server’s MAX_NUM_CTX'),
        ]
      : []),
    ...(num_predict > maxNumPredict
      ? [fault('num_predict', maxNumPredict, 'the server’s MAX_NUM_PREDICT')]
      : []),
  ]
  if (faults.length > 0) throw invalid(faults)
}

const fault = (option: keyof GenerationOptions, most: number, whose: string) => ({
  field: `options.${option}`,
  message: `must be at most ${most}, ${whose}`,
})

/** Cuts options that were stored before a bound was lowered. */
export function withinLimits(
  options: GenerationOptions,
  { maxNumCtx, maxNumPredict }: OptionLimits,
  { trainedContextLength = Number.POSITIVE_INFINITY }: Model,
): GenerationOptions {
  const { num_ctx, num_predict } = options
  return {
    ...options,
    ...(num_ctx !== undefined && { num_ctx: Math.min(num_ctx, maxNumCtx, trainedContextLength) }),
    ...(num_predict !== undefined && { num_predict: Math.min(num_predict, maxNumPredict) }),
  }
}

/**
 * How many tokens a reply may have at most: what is asked for, else what its model says itself.
 * Ollama takes 0 and less for no limit.
 */
export function mostTokens(
  { num_predict }: GenerationOptions,
  { maxNumPredict }: OptionLimits,
  { numPredict = -1 }: Model,
): number {
  const wanted = num_predict ?? numPredict
  return wanted <= 0 ? maxNumPredict : Math.min(wanted, maxNumPredict)
}
