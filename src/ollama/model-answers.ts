import type { LanguageModel } from '../../schemas/models.js'
import { badResponse, isRecord } from './model-errors.js'

export interface ListedModel extends LanguageModel {
  digest: string
}

/** What /api/show tells of a model. */
export interface ModelFacts {
  /** Empty where the model has none. */
  template: string
  /** Not told by old versions of Ollama. */
  capabilities: string[] | undefined
  /** The window the model was trained for, in tokens. */
  contextLength: number | undefined
}

type Answer = Readonly<Record<string, unknown>>

/** @throws AppError MODEL_BAD_RESPONSE. */
export function parseTags(answer: Answer): ListedModel[] {
  return modelsOf(answer, '/api/tags').map((model) => ({
    name: model.name,
    digest: textOf(model.digest) ?? '',
    size: countOf(model.size) ?? 0,
    modifiedAt: dateOf(model.modified_at),
    details: detailsOf(model.details),
  }))
}

/** @throws AppError MODEL_BAD_RESPONSE. */
export function parseLoaded(answer: Answer): Map<string, number> {
  const windows = new Map<string, number>()
  for (const model of modelsOf(answer, '/api/ps')) {
    const window = countOf(model.context_length)
    if (window) windows.set(model.name, window)
  }
  return windows
}

/** @throws AppError MODEL_BAD_RESPONSE. */
export function parseShow(answer: Answer): ModelFacts {
  const info = isRecord(answer.model_info) ? answer.model_info : {}
  const architecture = textOf(info['general.architecture'])
  const known = 'details' in answer || 'model_info' in answer || 'template' in answer
  if (!known) throw badResponse('/api/show without a model')
  return {
    template: textOf(answer.template) ?? '',
    capabilities: textsOf(answer.capabilities),
    contextLength: architecture ? countOf(info[`${architecture}.context_length`]) : undefined,
  }
}

function modelsOf(answer: Answer, path: string): (Answer & { name: string })[] {
  // Go writes an empty list as null.
  const models = answer.models === null ? [] : answer.models
  if (!Array.isArray(models)) throw badResponse(`${path} without models`)
  return models.map((model: unknown) => {
    const name = isRecord(model) ? (textOf(model.name) ?? textOf(model.model)) : undefined
    if (!isRecord(model) || !name) throw badResponse(`${path} with a model that has no name`)
    return { ...model, name }
  })
}

function detailsOf(value: unknown): LanguageModel['details'] {
  if (!isRecord(value)) return {}
  const details: LanguageModel['details'] = {}
  for (const key of ['format', 'family', 'parameter_size', 'quantization_level'] as const) {
    const text = textOf(value[key])
    if (text !== undefined) details[key] = text
  }
  const families = textsOf(value.families)
  if (families) details.families = families
  return details
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function textsOf(value: unknown): string[] | undefined {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : undefined
}

function countOf(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && Number(value) >= 0 ? Number(value) : undefined
}

function dateOf(value: unknown): string {
  const date = new Date(textOf(value) ?? 0)
  return (Number.isNaN(date.getTime()) ? new Date(0) : date).toISOString()
}
