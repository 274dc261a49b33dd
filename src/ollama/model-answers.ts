import type { LanguageModel } from '../../schemas/models.js'
import { badResponse, isRecord } from './model-errors.js'
import { isUsable } from './model-name.js'

export interface ListedModel extends LanguageModel {
  digest: string
}

/** A model, as /api/show describes it. */
export interface ModelFacts {
  /** Empty where the model has none. */
  template: string
  /** Not told by old versions of Ollama. */
  capabilities: string[] | undefined
  /** The window the model was trained for, in tokens. */
  contextLength: number | undefined
  /** What its Modelfile sets, where it does. */
  numCtx: number | undefined
  numPredict: number | undefined
}

/** The models that are loaded, each with its window in tokens where Ollama tells. */
export type LoadedModels = ReadonlyMap<string, number | undefined>

type Answer = Readonly<Record<string, unknown>>

/** @throws AppError MODEL_BAD_RESPONSE. */
export function parseTags(answer: Answer): ListedModel[] {
  const usable = modelsOf(answer, '/api/tags').filter(({ name }) => isUsable(name))
  return usable.map((model) => ({
    name: model.name,
    digest: textOf(model.digest) ?? '',
    size: countOf(model.size) ?? 0,
    modifiedAt: dateOf(model.modified_at),
    details: detailsOf(model.details),
  }))
}

/** @throws AppError MODEL_BAD_RESPONSE. */
export function parseLoaded(answer: Answer): LoadedModels {
  const models = modelsOf(answer, '/api/ps')
  return new Map(models.map((model) => [model.name, countOf(model.context_length) || undefined]))
}

/** @throws AppError MODEL_BAD_RESPONSE. */
export function parseShow(answer: Answer): ModelFacts {
  const info = isRecord(answer.model_info) ? answer.model_info : {}
  const architecture = textOf(info['general.architecture'])
  const parameters = textOf(answer.parameters) ?? ''
  const known = 'details' in answer || 'model_info' in answer || 'template' in answer
  if (!known) throw badResponse('/api/show without a model')
  return {
    template: textOf(answer.template) ?? '',
    capabilities: textsOf(answer.capabilities),
    contextLength: architecture ? countOf(info[`${architecture}.context_length`]) : undefined,
    numCtx: parameterOf(parameters, 'num_ctx'),
    numPredict: parameterOf(parameters, 'num_predict'),
  }
}

/** A number in the `name value` lines of /api/show. */
function parameterOf(parameters: string, name: string): number | undefined {
  const match = new RegExp(`^${name}\\s+(-?\\d{1,9})\\s*$`, 'm').exec(parameters)
  return match ? Number(match[1]) : undefined
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
