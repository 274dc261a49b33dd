import { type Static, Type } from '@sinclair/typebox'
import { Model } from './common.js'

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
    { description: 'As Ollama reports them.' },
  ),
)

export const LanguageModel = Model(
  'LanguageModel',
  Type.Object({
    name: Type.String(),
    size: Type.Integer({ description: 'In bytes.' }),
    modifiedAt: Type.String({ format: 'date-time' }),
    details: ModelDetails,
    capabilities: Type.Optional(
      Type.Array(Type.String(), { description: 'Such as completion, tools, vision, thinking.' }),
    ),
  }),
)
export type LanguageModel = Static<typeof LanguageModel>

export const ModelList = Model('ModelList', Type.Object({ models: Type.Array(LanguageModel) }))
export type ModelList = Static<typeof ModelList>
