import type { TSchema } from '@sinclair/typebox'
import { errorTable } from '../errors.js'

const prefix = '#/components/schemas/'

/** How a document refers to a model. */
export const refTo = (name: string) => `${prefix}${name}`

/** A model's schema as a component of a document: named by its key, referring to its neighbours. */
export function componentOf(model: TSchema): Record<string, unknown> {
  const text = JSON.stringify(model, (key, value) =>
    key === '$ref' ? refTo(String(value).replace(/#$/, '')) : value,
  )
  const { $id: _, ...schema } = JSON.parse(text)
  return schema
}

/** The names of the models that `part` of a document refers to. */
export function referredIn(part: unknown): string[] {
  const names = JSON.stringify(part).matchAll(/"\$ref":"#\/components\/schemas\/([^"/]+)/g)
  return Array.from(names, ([, name]) => name ?? '')
}

type Components = Record<string, Record<string, unknown>>

/**
 * Completes a document's components with what the models leave to the catalogue of errors and to settings.
 * @param maxima what the settings allow of options, by their names.
 */
export function completeComponents(
  schemas: Components,
  maxima: Readonly<Record<string, number>>,
): void {
  describeErrorCodes(schemas)
  boundOptions(schemas, maxima)
}

/** Gives the model ErrorCode its values, and a table of their meaning. */
function describeErrorCodes(schemas: Components): void {
  const { ErrorCode: model } = schemas
  if (!model) return
  model['x-extensible-enum'] = errorTable.map(({ code }) => code)
  model.description = [
    `${model.description}\n`,
    '| code | status | retryable | cause | remedy |',
    '|---|---|---|---|---|',
    ...errorTable.map(
      ({ code, status, retryable, cause, remedy }) =>
        `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${cause} | ${remedy} |`,
    ),
  ].join('\n')
}

/** Gives options the bounds that settings hold. */
function boundOptions(
  { GenerationOptions: model }: Components,
  maxima: Readonly<Record<string, number>>,
): void {
  const properties = model?.properties as Record<string, { maximum?: number }> | undefined
  for (const [name, maximum] of Object.entries(maxima)) {
    const property = properties?.[name]
    if (property) property.maximum = maximum
  }
}
