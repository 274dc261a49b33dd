import { models } from '../../schemas/common.js'
import { examples } from '../../schemas/examples.js'
import { AppError, type ErrorCode, errorBody, statusOf } from '../errors.js'
import { completeComponents, referredIn, refTo } from './components.js'

/** What a route tells of itself beyond its schemas. */
export interface DocumentedRoute {
  method: string | readonly string[]
  schema: {
    /** The errors of its own that it may answer with; undefined where nothing can fail. */
    errors?: readonly ErrorCode[]
    /** Whether a request may have no body. */
    bodyIsOptional?: boolean
    /** Empty where no token is required. */
    security?: readonly object[]
  }
}

interface Parameter {
  required?: boolean
  example?: unknown
  schema: { examples?: unknown[] }
}

interface Response {
  description: string
  headers?: Record<string, object>
  content?: Record<string, Record<string, unknown>>
}

interface Operation {
  operationId: string
  tags?: string[]
  parameters?: Parameter[]
  requestBody?: { required: boolean }
  responses: Record<string, Response>
}

type PathItem = Record<string, Operation>

/** An OpenAPI document as far as it is completed here. */
export interface ApiDocument {
  tags: readonly { name: string }[]
  paths: Record<string, PathItem>
  components: {
    schemas: Record<string, Record<string, unknown>>
    headers?: Record<string, object>
    examples?: Record<string, object>
  }
}

const ofTokens = [
  'UNAUTHORIZED',
  'TOKEN_EXPIRED',
  'LOGGED_OUT',
  'TOKEN_REUSED',
  'ACCOUNT_DELETED',
] as const
const ofBodies = [
  'BAD_JSON',
  'BAD_TEXT',
  'TOO_DEEP',
  'ORIGIN_REFUSED',
  'BODY_TOO_LARGE',
  'UNSUPPORTED_MEDIA_TYPE',
] as const
const ofServices = ['INTERNAL', 'STORE_UNAVAILABLE'] as const

const responseHeaders = {
  'X-Request-Id': {
    description: 'Identifies the request in the server’s log.',
    schema: { type: 'string' },
    example: examples.requestId,
  },
  'Retry-After': {
    description: 'After how many seconds to try again.',
    schema: { type: 'integer', minimum: 1 },
    example: 5,
  },
  'WWW-Authenticate': {
    description: 'The scheme of the token that is required.',
    schema: { type: 'string' },
    example: 'Bearer',
  },
  'RateLimit-Limit': {
    description: 'How many requests a minute has; absent where that limit is off.',
    schema: { type: 'integer', minimum: 1 },
    example: 6000,
  },
  'RateLimit-Remaining': {
    description: 'How many of them are left.',
    schema: { type: 'integer', minimum: 0 },
    example: 5997,
  },
  'RateLimit-Reset': {
    description: 'In how many seconds the next minute begins.',
    schema: { type: 'integer', minimum: 0 },
    example: 42,
  },
}
const rateLimits = ['RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset'] as const

/**
 * Completes a document, as it follows from the routes' schemas, with what those cannot say.
 * @param routes by their operation ids.
 * @param maxima what the settings allow of options, by their names.
 */
export function completeDocument(
  document: ApiDocument,
  routes: ReadonlyMap<string, DocumentedRoute>,
  maxima: Readonly<Record<string, number>>,
): void {
  const { components } = document
  document.paths = inOrder(document)
  components.headers = responseHeaders
  components.examples = {}
  for (const operation of Object.values(document.paths).flatMap((item) => Object.values(item))) {
    const route = routes.get(operation.operationId)
    if (!route) continue
    const errors = errorsOf(route)
    for (const code of errors) components.examples[code] ??= exampleOf(code)
    completeOperation(operation, route, errors)
  }
  completeComponents(components.schemas, maxima)
  discriminateEvents(components.schemas)
  removeUnused(components.schemas, document.paths)
}

/**
 * The paths by their tags. Paths of what can be deleted come last, so that whoever tries the operations
 * from top to bottom has what each needs.
 */
function inOrder({ tags, paths }: ApiDocument): Record<string, PathItem> {
  const rankOf = (item: PathItem): number => {
    const [first] = Object.values(item)
    const tag = tags.findIndex(({ name }) => name === first?.tags?.[0])
    return 'delete' in item ? tags.length + tag : tag
  }
  return Object.fromEntries(Object.entries(paths).sort(([, a], [, b]) => rankOf(a) - rankOf(b)))
}

function completeOperation(
  operation: Operation,
  route: DocumentedRoute,
  errors: readonly ErrorCode[],
): void {
  const { parameters = [], requestBody, responses } = operation
  for (const parameter of parameters) {
    // The page fills in a parameter's `example`, and would send every optional one.
    if (parameter.required || parameter.example === undefined) continue
    parameter.schema.examples = [parameter.example]
    delete parameter.example
  }
  if (requestBody && route.schema.bodyIsOptional) requestBody.required = false
  Object.assign(responses, errorResponses(errors))
  const isLimited = errors.includes('RATE_LIMITED')
  for (const [status, response] of Object.entries(responses)) {
    const names = [
      'X-Request-Id',
      ...(status === '401' ? ['WWW-Authenticate'] : []),
      ...(status === '429' || (status === '503' && route.schema.errors) ? ['Retry-After'] : []),
      ...(isLimited && status < '300' ? rateLimits : []),
    ]
    const shared = names.map((name) => [name, { $ref: `#/components/headers/${name}` }])
    response.headers = { ...response.headers, ...Object.fromEntries(shared) }
    // What OpenAPI 3.2 calls `itemSchema`.
    const stream = response.content?.['text/event-stream']
    if (stream) stream['x-itemSchema'] = { $ref: refTo('StreamEvent') }
  }
}

/** Every error that a route may answer with: its own, and those that come before and behind each handler. */
function errorsOf({ method, schema: { errors, security } }: DocumentedRoute): ErrorCode[] {
  const hasBody = [method].flat().some((name) => name !== 'GET' && name !== 'HEAD')
  return [
    'VALIDATION_FAILED',
    ...(hasBody ? ofBodies : []),
    ...(security ? [] : ofTokens),
    ...(errors ? [...errors, ...ofServices] : []),
  ]
}

function errorResponses(codes: readonly ErrorCode[]): Record<string, Response> {
  const byStatus = new Map<number, ErrorCode[]>()
  for (const code of codes) {
    byStatus.set(statusOf(code), [...(byStatus.get(statusOf(code)) ?? []), code])
  }
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => {
      const references = codes.map((code) => [code, { $ref: `#/components/examples/${code}` }])
      const media = {
        schema: { $ref: refTo('ApiError') },
        examples: Object.fromEntries(references),
      }
      const description = `${codes.map((code) => `\`${code}\``).join(', ')}.`
      return [status, { description, content: { 'application/json': media } }]
    }),
  )
}

/** An error as a client gets it. */
function exampleOf(code: ErrorCode) {
  const detail =
    code === 'VALIDATION_FAILED'
      ? { errors: [{ field: 'content', message: 'must not be empty' }] }
      : {}
  const error = new AppError(code, detail)
  return { summary: error.message, value: errorBody(error, examples.requestId) }
}

/** Names the property that tells a stream's events apart. */
function discriminateEvents(schemas: Record<string, Record<string, unknown>>): void {
  const { StreamEvent: union } = schemas
  if (!union) return
  const mapping = referredIn(union).map((name) => {
    const event: unknown = models.get(name)?.properties.event.const
    return [event, refTo(name)]
  })
  union.discriminator = { propertyName: 'event', mapping: Object.fromEntries(mapping) }
}

/** Removes models that no operation uses, such as sockets' payloads. */
function removeUnused(schemas: ApiDocument['components']['schemas'], paths: object): void {
  const used = new Set(referredIn(paths))
  // Iterating a Set also visits what is added during the iteration.
  for (const name of used) {
    for (const referred of referredIn(schemas[name] ?? {})) used.add(referred)
  }
  for (const name of Object.keys(schemas)) {
    if (!used.has(name)) delete schemas[name]
  }
}
