import { AjvCompiler } from '@fastify/ajv-compiler'
import type { Static, TSchema } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import type { FastifySchemaValidationError, SchemaErrorDataVar } from 'fastify/types/schema.js'
import fp from 'fastify-plugin'
import '../schemas/auth.js'
import '../schemas/chats.js'
import { Closed, models } from '../schemas/common.js'
import '../schemas/events.js'
import '../schemas/health.js'
import '../schemas/messages.js'
import '../schemas/models.js'
import { AppError } from '../src/errors.js'
import { assertPlainJson, parseJson } from '../src/json-text.js'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * The value as its model wants it, checked as a request's body is.
     * @throws AppError VALIDATION_FAILED, BAD_TEXT, TOO_DEEP.
     */
    validatePayload<S extends TSchema>(model: S, value: unknown): Static<S>
  }
}

interface Check {
  (data: unknown): boolean
  errors?: FastifySchemaValidationError[] | null
}
type Compile = (route: { schema: unknown }) => Check

/** Only JSON, and JSON is UTF-8. */
const jsonType = /^application\/json\s*(?:;\s*charset=(?:utf-8|"utf-8")\s*)?$/i

/** A number in a query string or path; coercion alone would take `0x10` and `1e1`. */
const digits = /^-?\d{1,16}$/

/** Bodies and socket payloads are checked as they are; what arrives as text is coerced first. */
export default fp(
  async (fastify) => {
    for (const model of models.values()) fastify.addSchema(model)
    const compileExact = createCompiler(false)
    const compileCoercing = createCompiler('array')

    fastify.setValidatorCompiler<TSchema>(({ schema, httpPart }) => {
      if (httpPart === 'body') return compileExact({ schema })
      return checkText(schema, compileCoercing({ schema }))
    })
    fastify.setSchemaErrorFormatter(refusal)
    fastify.addHook('onRoute', ({ schema }) => {
      // A documented route that names no query parameter takes none.
      if (schema?.operationId && !schema.querystring) schema.querystring = Closed({})
    })

    fastify.removeAllContentTypeParsers()
    fastify.addContentTypeParser(
      'application/json',
      { parseAs: 'buffer' },
      async (request: FastifyRequest, body: Buffer) => {
        if (!jsonType.test(request.headers['content-type'] ?? '')) {
          throw new AppError('UNSUPPORTED_MEDIA_TYPE')
        }
        // A DELETE with this type and no body is none the worse for it.
        return body.length === 0 ? undefined : parseJson(body)
      },
    )

    const payloadChecks = new Map<TSchema, Check>()
    fastify.decorate('validatePayload', <S extends TSchema>(model: S, value: unknown) => {
      let check = payloadChecks.get(model)
      if (!check) {
        check = compileExact({ schema: model })
        payloadChecks.set(model, check)
      }
      assertPlainJson(value)
      if (!check(value)) throw refusal(check.errors ?? [], 'payload')
      return value as Static<S>
    })
  },
  { name: 'validation' },
)

function createCompiler(coerceTypes: false | 'array'): Compile {
  const compile = AjvCompiler()(Object.fromEntries(models), {
    customOptions: {
      coerceTypes,
      removeAdditional: false,
      useDefaults: true,
      allErrors: false,
      allowUnionTypes: true,
      strictTypes: true,
      // Lengths are UTF-16 units, as in JavaScript; Ajv logs that it would rather not.
      unicode: false,
      logger: false,
    },
  })
  // Its type tells of a bare schema, but it wants the route's part around it.
  return compile as unknown as Compile
}

/** A check of a query string, params or headers: strings that Ajv would be too lenient with. */
function checkText(schema: TSchema, check: Check): Check {
  const properties: Record<string, TSchema> = schema.properties ?? {}
  const integers = Object.keys(properties).filter((name) => properties[name]?.type === 'integer')
  const checked: Check = (data) => {
    const values = { ...(data as Record<string, unknown>) }
    for (const name of integers) {
      const value = values[name]
      if (typeof value === 'string' && !digits.test(value)) return fault(name, 'must be integer')
    }
    for (const [name, value] of Object.entries(values)) {
      if (String(value).includes('\0')) return fault(name, 'must not hold NUL')
    }
    const valid = check(data)
    checked.errors = check.errors ?? null
    return valid
  }
  function fault(name: string, message: string): false {
    const instancePath = `/${name}`
    checked.errors = [{ keyword: 'text', instancePath, schemaPath: '', params: {}, message }]
    return false
  }
  return checked
}

function refusal(
  errors: readonly FastifySchemaValidationError[],
  part: SchemaErrorDataVar | 'payload',
): AppError {
  const [first] = errors
  const where = `${part}${first?.instancePath ?? ''}`
  return new AppError('VALIDATION_FAILED', { message: `${where} ${explain(first)}` })
}

function explain(error: FastifySchemaValidationError | undefined): string {
  const { additionalProperty, allowedValues } = error?.params ?? {}
  if (typeof additionalProperty === 'string') {
    return `must not have the field ${JSON.stringify(additionalProperty.slice(0, 100))}`
  }
  if (Array.isArray(allowedValues)) return `must be one of ${allowedValues.join(', ')}`
  return error?.message ?? 'is not valid'
}
