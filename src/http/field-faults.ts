import type { FieldFault } from '../../schemas/common.js'

/** The parts of a JSON Schema that messages are made from. */
interface FieldSchema {
  type?: string | readonly string[]
  description?: string
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
  minItems?: number
  maxItems?: number
  minProperties?: number
  maxProperties?: number
  enum?: readonly unknown[]
  required?: readonly string[]
  properties?: object
}

/** A fault as Ajv reports it with `verbose`. */
export interface SchemaFault {
  keyword: string
  /** A JSON pointer to the value. */
  instancePath: string
  params: Record<string, unknown>
  message?: string
  parentSchema?: FieldSchema
}

/** A response lists at most this many faults. */
const maxFaults = 20
/** Cuts a client's field names, which may be as long as the request. */
const maxNameLength = 100

/**
 * Explains every fault of a value: the field, and what it must be.
 * @param part the name of the whole value, such as `body`.
 */
export function fieldFaults(faults: readonly SchemaFault[], part: string): FieldFault[] {
  const told = new Map<string, FieldFault>()
  for (const fault of withoutNoise(faults)) {
    const { field, message } = explain(fault)
    const named = { field: field === '' ? part : field.slice(0, maxNameLength), message }
    told.set(JSON.stringify(named), named)
    if (told.size === maxFaults) break
  }
  return [...told.values()]
}

/** Drops faults that repeat another: a count of fields, and the other branches of a union. */
function withoutNoise(faults: readonly SchemaFault[]): SchemaFault[] {
  const unions = new Set<string>()
  const named = new Set<string>()
  for (const { keyword, instancePath } of faults) {
    if (keyword === 'anyOf') unions.add(instancePath)
    if (keyword === 'required' || keyword === 'additionalProperties') named.add(instancePath)
  }
  const isInside = (union: string) => (fault: SchemaFault) =>
    fault.instancePath.startsWith(`${union}/`) ||
    (fault.instancePath === union && fault.keyword !== 'type' && fault.keyword !== 'anyOf')
  const explained = new Set([...unions].filter((union) => faults.some(isInside(union))))
  return faults.filter(({ keyword, instancePath }) => {
    if (keyword === 'anyOf') return false
    if (keyword === 'type') return !explained.has(instancePath)
    return !/^m(?:in|ax)Properties$/.test(keyword) || !named.has(instancePath)
  })
}

function explain({ keyword, instancePath, params, message, parentSchema = {} }: SchemaFault) {
  const path = instancePath
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'))
  const at = (...names: unknown[]) => [...path, ...names].join('.')
  const known = listOf(Object.keys(parentSchema.properties ?? {}))
  switch (keyword) {
    case 'required':
      return { field: at(params.missingProperty), message: 'is missing' }
    case 'additionalProperties':
      return {
        field: at(params.additionalProperty),
        message: `is not known here${known && `: there is ${known}`}`,
      }
    case 'minProperties':
    case 'maxProperties': {
      const { minProperties: min, maxProperties: max } = parentSchema
      return { field: at(), message: `must have ${range(min, max)} of ${known}` }
    }
    default:
      return {
        field: at(),
        message: requirement(keyword, params, parentSchema) ?? message ?? 'is wrong',
      }
  }
}

/** The message that says how a value must be; undefined where Ajv's own message is good enough. */
function requirement(
  keyword: string,
  params: Record<string, unknown>,
  schema: FieldSchema,
): string | undefined {
  switch (keyword) {
    case 'type':
    case 'minimum':
    case 'maximum':
      return `must be ${[schema.type ?? params.type]
        .flat()
        .map((type) => kind(String(type), schema))
        .join(' or ')}`
    case 'minLength':
    case 'maxLength':
      if (keyword === 'minLength' && schema.minLength === 1) return 'must not be empty'
      return `must have ${range(schema.minLength, schema.maxLength)} characters`
    case 'minItems':
    case 'maxItems':
      return `must have ${range(schema.minItems, schema.maxItems)} items`
    case 'enum':
      return `must be one of ${(schema.enum ?? []).join(', ')}`
    case 'pattern':
      return described(schema.description)
    default:
      return undefined
  }
}

function kind(type: string, schema: FieldSchema): string {
  switch (type) {
    case 'integer':
      return `a whole number${bounds(schema)}`
    case 'number':
      return `a number${bounds(schema)}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return 'a list'
    case 'object': {
      const fields = schema.required ?? Object.keys(schema.properties ?? {})
      return fields.length === 0 ? 'an object' : `an object with ${listOf(fields)}`
    }
    case 'null':
      return 'null'
    default:
      return `a ${type}`
  }
}

function bounds({ minimum, maximum }: FieldSchema): string {
  if (minimum === undefined && maximum === undefined) return ''
  const both = minimum !== undefined && maximum !== undefined
  return `${both ? ' from' : ' of'} ${range(minimum, maximum)}`
}

function range(min: number | undefined, max: number | undefined): string {
  if (min !== undefined && min === max) return String(min)
  if (min !== undefined && max !== undefined) return `${min} to ${max}`
  if (min !== undefined) return `at least ${min}`
  return max === undefined ? '' : `at most ${max}`
}

/** Describes a pattern by its schema's description, up to the first semicolon. */
function described(description: string | undefined): string {
  const [first = ''] = (description ?? '').split(';')
  const form = first.replace(/\.$/, '')
  if (form === '') return 'does not have the required form'
  return `must be ${form[0]?.toLowerCase()}${form.slice(1)}`
}

const listOf = (names: readonly string[]) => names.map((name) => `\`${name}\``).join(', ')
