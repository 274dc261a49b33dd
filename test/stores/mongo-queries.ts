import type { CommandStartedEvent, Document, MongoClient } from 'mongodb'

/** A query of a collection. */
export interface Query {
  collection: string
  command: string
  filter: Document
  sort: Document
  /** Whether it reads documents whole. */
  whole: boolean
  /** The command of this query alone, for `explain`. */
  alone: Document
}

export interface Index {
  name: string
  key: Document
  sparse?: boolean
}

export interface Plan {
  /** The index that finds the documents; undefined where all would be read. */
  index: string | undefined
  /** Whether the documents must be sorted afterwards. */
  sorts: boolean
}

const withoutFilter = new Set([
  ...['insert', 'createIndexes', 'listIndexes', 'dropDatabase', 'getMore', 'killCursors'],
  ...['ping', 'buildInfo', 'endSessions'],
])

/** Collects every query of the client from now on. A command that is not known here counts as a query without a filter. */
export function watchQueries(client: MongoClient): Query[] {
  const queries: Query[] = []
  client.on('commandStarted', ({ commandName, command }: CommandStartedEvent) => {
    queries.push(...queriesOf(commandName, command))
  })
  return queries
}

function queriesOf(name: string, command: Document): Query[] {
  const collection = String(command[name])
  const query = (filter: Document, alone: Document, rest: Partial<Query> = {}): Query => {
    const whole = false
    return { collection, command: name, filter, sort: {}, whole, alone, ...rest }
  }
  if (name === 'find') {
    const { filter = {}, sort = new Map(), projection, limit } = command
    const alone = { find: collection, filter, sort, ...(limit && { limit }) }
    return [query(filter, alone, { sort: Object.fromEntries(sort), whole: !projection })]
  }
  if (name === 'aggregate') {
    const filter = command.pipeline[0].$match
    return [query(filter, { find: collection, filter })]
  }
  if (name === 'findAndModify') {
    const { query: filter, update, fields } = command
    const alone = {
      findAndModify: collection,
      query: filter,
      ...(update ? { update } : { remove: true }),
    }
    return [query(filter, alone, { whole: !fields })]
  }
  if (name === 'update') {
    return command.updates.map((one: Document) =>
      query(one.q, { update: collection, updates: [one] }),
    )
  }
  if (name === 'delete') {
    return command.deletes.map((one: Document) =>
      query(one.q, { delete: collection, deletes: [one] }),
    )
  }
  if (withoutFilter.has(name)) return []
  // No index serves it, so that the test fails until the command is added here.
  return [query({}, { [name]: collection })]
}

/** A query without its values: queries of one shape have one plan. */
export function shapeOf({ collection, command, filter, sort, whole }: Query): string {
  const sorted = Object.keys(sort).length > 0 ? ` by ${Object.keys(sort).join(', ')}` : ''
  return `${collection}.${command} ${shape(filter)}${sorted}${whole ? ' whole' : ''}`
}

function shape(filter: Document): string {
  const parts = Object.entries(filter).map(([field, condition]) => {
    if (Array.isArray(condition)) return `${field} ${[...new Set(condition.map(shape))].join(' ')}`
    return isOperators(condition) ? `${field} ${Object.keys(condition).join(' ')}` : field
  })
  return `{${parts.join(', ')}}`
}

/**
 * The plan of a query: an index that also sorts goes first, then the one with the most leading keys
 * fixed by the filter. A sparse index holds only the documents that have its key.
 */
export function planOf({ filter, sort }: Pick<Query, 'filter' | 'sort'>, indexes: Index[]): Plan {
  const best = indexes
    .map((index) => ({
      index: index.name,
      sorts: !inOrder(sort, filter, index),
      worth: worthOf(filter, index),
    }))
    .filter(({ worth }) => worth > 0)
    .sort((a, b) => Number(a.sorts) - Number(b.sorts) || b.worth - a.worth)[0]
  if (best) return { index: best.index, sorts: best.sorts }
  const branches: Document[] = filter.$or ?? []
  const plans = branches.map((branch) => planOf({ filter: branch, sort }, indexes))
  const names = plans.map(({ index }) => index)
  const served = names.length > 0 && !names.includes(undefined)
  const sorts = Object.keys(sort).length > 0
  return { index: served ? [...new Set(names)].join(' ') : undefined, sorts }
}

/** The number of leading keys that the filter fixes, plus a half where it bounds the next; 0 is useless. */
function worthOf(filter: Document, { key, sparse = false }: Index): number {
  const keys = Object.keys(key)
  const loose = keys.findIndex((name) => !isFixed(filter[name]))
  if (loose < 0) return keys.length
  return loose + (isBounded(filter[keys[loose] ?? ''], sparse) ? 0.5 : 0)
}

/** Whether an index returns documents in the wanted order, forwards or backwards. */
function inOrder(sort: Document, filter: Document, { key }: Index): boolean {
  const wanted = Object.entries(sort)
  const keys = Object.entries(key)
  const start = keys.findIndex(([name]) => name === wanted[0]?.[0])
  if (wanted.length === 0) return true
  if (start < 0 || !keys.slice(0, start).every(([name]) => isFixed(filter[name]))) return false
  const directions = wanted.map(([name, direction], n) => {
    const [indexed, way] = keys[start + n] ?? []
    return indexed === name ? direction * way : 0
  })
  return directions.every((way) => way === 1) || directions.every((way) => way === -1)
}

function isOperators(condition: unknown): condition is Document {
  return (
    typeof condition === 'object' &&
    condition !== null &&
    Object.keys(condition).some((name) => name.startsWith('$'))
  )
}

/** Whether a condition is one value. Null also matches documents without the field, which no sparse index holds. */
const isFixed = (condition: unknown) =>
  condition !== undefined && condition !== null && !isOperators(condition)

const bounds = ['$eq', '$in', '$gt', '$gte', '$lt', '$lte']

const isBounded = (condition: unknown, sparse: boolean) =>
  isOperators(condition) &&
  (bounds.some((name) => name in condition) || (sparse && condition.$exists === true))
