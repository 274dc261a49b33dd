import { type Static, Type } from '@sinclair/typebox'
import { Model } from './common.js'
import { examples } from './examples.js'

const details = { format: 'script', family: 'eliza', families: ['eliza'], parameter_size: '0' }
const model = {
  name: examples.model,
  size: 19_000,
  modifiedAt: '2026-11-01T00:00:00.000Z',
  details,
  capabilities: ['completion'],
}

const ModelDetails = Model(
  'ModelDetails',
  Type.Object(
    {
      format: Type.Optional(Type.String()),
      family: Type.Optional(Type.String()),
      families: Type.Optional(Type.Array(Type.String())),
      parameter_size: Type.Optional(Type.String()),
      quantization_level: Type.Optional(Type.String()),
    },
    { description: 'As Ollama reports them.', examples: [details] },
  ),
)

export const LanguageModel = Model(
  'LanguageModel',
  Type.Object(
    {
      name: Type.String({ description: 'What requests call it.' }),
      size: Type.Integer({ description: 'In bytes.' }),
      modifiedAt: Type.String({ format: 'date-time' }),
      details: ModelDetails,
      capabilities: Type.Optional(
        Type.Array(Type.String(), { description: 'Such as completion, tools, vision, thinking.' }),
      ),
    },
    { description: 'A model that Ollama lists.', examples: [model] },
  ),
)
export type LanguageModel = Static<typeof LanguageModel>

export const ModelList = Model(
  'ModelList',
  Type.Object(
    { models: Type.Array(LanguageModel) },
    { description: 'Every model that Ollama lists.', examples: [{ models: [model] }] },
  ),
)
export type ModelList = Static<typeof ModelList>
