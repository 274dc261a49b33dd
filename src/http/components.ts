import type { TSchema } from '@sinclair/typebox'

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
