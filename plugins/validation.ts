import { AjvCompiler } from '@fastify/ajv-compiler'
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import type { Static, TSchema } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import type {
  FastifySchemaValidationError,
  FastifySerializerCompiler,
  SchemaErrorDataVar,
} from 'fastify/types/schema.js'
import fp from 'fastify-plugin'
import '../schemas/auth.js'
import '../schemas/chats.js'
import { Closed, models } from '../schemas/common.js'
import '../schemas/events.js'
import '../schemas/health.js'
import '../schemas/messages.js'
import '../schemas/models.js'
import { AppError, invalid } from '../src/errors.js'
import { fieldFaults, type SchemaFault } from '../src/http/field-faults.js'
import { assertPlainJson, parseJson } from '../src/http/json-text.js'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Checks a socket's payload as strictly as a request's body, and returns it typed.
     * @throws AppError VALIDATION_FAILED, BAD_TEXT, TOO_DEEP.
     */
    validatePayload<S extends TSchema>(model: S, value: unknown): Static<S>
  }
}

type Fault = SchemaFault & FastifySchemaValidationError

interface Check {
  (data: unknown): boolean
  errors?: Fault[] | null
}
type Compile = (route: { schema: unknown }) => Check

/** JSON in UTF-8 only. */
const jsonType = /^application\/json\s*(?:;\s*charset=(?:utf-8|"utf-8")\s*)?$/i

/** Where a field is, for the message; a body's fields need no prefix. */
const partNames: Readonly<Record<SchemaErrorDataVar | 'payload', string>> = {
  body: '',
  payload: '',
  querystring: 'In the query string: ',
  params: 'In the path: ',
  headers: 'In the headers: ',
}

/** An integer in a query string or path; coercion alone would accept `0x10` and `1e1`. */
const digits = /^-?\d{1,16}$/

/** Validates bodies and payloads as they are; coerces query strings, params and headers from text. */
export default fp(
  async (fastify) => {
    for (const model of models.values()) fastify.addSchema(model)
    const compileExact = createCompiler(false)
    const compileCoercing = createCompiler('array')

    fastify.setValidatorCompiler<TSchema>(({ schema, httpPart }) => {
      if (httpPart === 'body') return compileExact({ schema })
      return checkText(schema, compileCoercing({ schema }))
    })
    fastify.setSerializerCompiler(serializerPerSchema())
    fastify.setSchemaErrorFormatter(refusal)
    fastify.addHook('onRoute', ({ schema }) => {
      // A documented route without query parameters refuses all of them.
      if (schema?.operationId && !schema.querystring) schema.querystring = Closed({})
    })

    fastify.addHook('onRequest', ({ headers }, _reply, done) => {
      // An empty body has no type: curl sends a form's.
      if (headers['content-length'] === '0') delete headers['content-type']
      done()
    })
    fastify.removeAllContentTypeParsers()
    fastify.addContentTypeParser(
      'application/json',
      { parseAs: 'buffer' },
      async (request: FastifyRequest, body: Buffer) => {
        if (!jsonType.test(request.headers['content-type'] ?? '')) {
          throw new AppError('UNSUPPORTED_MEDIA_TYPE')
        }
        // A DELETE may have this type and no body.
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
      // `assertPlainJson` bounds the number of errors.
      allErrors: true,
      verbose: true,
      allowUnionTypes: true,
      strictTypes: true,
      // Counts lengths in UTF-16 units, as JavaScript does; Ajv would log a warning about it.
      unicode: false,
      logger: false,
    },
  })
  // Its declared type takes a bare schema, but the function takes `{ schema }`.
  return compile as unknown as Compile
}

/** Compiles equal response schemas once: a start would otherwise compile the one of errors 168 times. */
function serializerPerSchema(): FastifySerializerCompiler<unknown> {
  const compile = SerializerSelector()(Object.fromEntries(models), {})
  const compiled = new Map<string, ReturnType<typeof compile>>()
  return ({ schema, method, url, httpStatus = '' }) => {
    const key = JSON.stringify(schema)
    const serialize = compiled.get(key) ?? compile({ schema, method, url, httpStatus })
    compiled.set(key, serialize)
    return serialize
  }
}

/** Checks a query string, params or headers more strictly than Ajv does. */
function checkText(schema: TSchema, check: Check): Check {
  const properties: Record<string, TSchema> = schema.properties ?? {}
  const integers = Object.keys(properties).filter((name) => properties[name]?.type === 'integer')
  const checked: Check = (data) => {
    const faults: Fault[] = []
    for (const [name, value] of Object.entries(data as Record<string, unknown>)) {
      const parentSchema = properties[name]
      const at = { instancePath: `/${name}`, schemaPath: '', ...(parentSchema && { parentSchema }) }
      if (integers.includes(name) && typeof value === 'string' && !digits.test(value)) {
        faults.push({ ...at, keyword: 'type', params: { type: 'integer' } })
      }
      if (String(value).includes('\0')) {
        faults.push({ ...at, keyword: 'text', params: {}, message: 'must not hold NUL' })
      }
    }
    const valid = check(data)
    checked.errors = [...faults, ...(check.errors ?? [])]
    return valid && faults.length === 0
  }
  return checked
}

function refusal(
  faults: readonly FastifySchemaValidationError[],
  part: SchemaErrorDataVar | 'payload',
): AppError {
  return invalid(fieldFaults(faults as readonly Fault[], part), partNames[part])
}
