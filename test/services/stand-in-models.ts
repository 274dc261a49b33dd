import { createHash, randomUUID } from 'node:crypto'

export interface StandInModel {
  name: string
  /** The window it was trained for. */
  contextLength: number
  /** The window that /api/ps tells; undefined: it is not loaded. */
  loadedContextLength: number | undefined
  continues: boolean
  capabilities: string[]
  /** Unique unless given, because the product keeps what it learns of a model. */
  digest?: string
  /** What its Modelfile sets, as /api/show tells it. */
  parameters?: string
}

export const standInModel: StandInModel = {
  name: 'stand-in:latest',
  contextLength: 8192,
  loadedContextLength: 4096,
  continues: true,
  capabilities: ['completion', 'thinking'],
}

const continuingTemplate =
  '{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 -}}{{ .Content }}{{ end }}'
export const closingTemplate = '{{ .System }} {{ .Prompt }} {{ .Response }}'

/** `x` also finds `x:latest`, in any case. */
export function findModel(models: readonly StandInModel[], name: string) {
  const names = [name.toLowerCase(), `${name.toLowerCase()}:latest`]
  return models.find((model) => names.includes(model.name.toLowerCase()))
}

/** The model as /api/tags lists it. */
export function listed(model: StandInModel) {
  return {
    name: model.name,
    model: model.name,
    modified_at: '2026-01-02T03:04:05.678901234+01:00',
    size: 135_000_000,
    digest: digestOf(model),
    details: {
      parent_model: '',
      format: 'gguf',
      family: 'standin',
      families: ['standin'],
      parameter_size: '135M',
      quantization_level: 'Q4_1',
    },
  }
}

/** The model as /api/ps tells of it. */
export function loaded(model: StandInModel) {
  const { modified_at: _, ...facts } = listed(model)
  const expires_at = new Date(Date.now() + 300_000).toISOString()
  return { ...facts, expires_at, size_vram: 0, context_length: model.loadedContextLength }
}

/** The model as /api/show tells of it. */
export function shown(model: StandInModel) {
  return {
    ...(model.parameters !== undefined && { parameters: model.parameters }),
    template: model.continues ? continuingTemplate : closingTemplate,
    details: listed(model).details,
    model_info: {
      'general.architecture': 'standin',
      'standin.context_length': model.contextLength,
    },
    capabilities: model.capabilities,
  }
}

const ids = new WeakMap<StandInModel, string>()

function digestOf(model: StandInModel): string {
  const id = ids.get(model) ?? randomUUID()
  ids.set(model, id)
  const facts = `${id} ${model.continues} ${model.contextLength}`
  return model.digest ?? createHash('sha256').update(facts).digest('hex')
}
