import { type Static, type TSchema, Type } from '@sinclair/typebox'

/** Every named model by its `$id`; each becomes a component of the OpenAPI document. */
export const models = new Map<string, TSchema & { $id: string }>()

/**
 * Declares a named model and returns a typed reference to it.
 *
 * A schema becomes a component only if it is registered under its `$id` and used by reference;
 * `Unsafe` carries the type through the reference.
 */
export function Model<S extends TSchema>(id: string, schema: S) {
  models.set(id, { ...schema, $id: id })
  return Type.Unsafe<Static<S>>(Type.Ref(`${id}#`))
}

/** An object that refuses unknown fields. */
export function Closed<P extends Parameters<typeof Type.Object>[0]>(
  properties: P,
  options: Parameters<typeof Type.Object>[1] = {},
) {
  return Type.Object<P>(properties, { ...options, additionalProperties: false })
}

/** An enumeration as `{type: 'string', enum}`; generators name unions of literals badly. */
export function StringEnum<const V extends readonly string[]>(values: V, description: string) {
  return Type.Unsafe<V[number]>({ type: 'string', enum: [...values], description })
}

export const Id = Type.String({
  pattern: '^[0-9a-f]{24}$',
  description: 'An ObjectId in hex: 24 digits of 0-9 and a-f.',
})

export const Timestamp = Type.String({ format: 'date-time', description: 'ISO 8601, UTC.' })

/** A page's size; plugins/validation.ts checks that its text has digits only. */
export const Limit = (otherwise: number) =>
  Type.Integer({ minimum: 1, maximum: 100, default: otherwise, description: 'A page’s size.' })

export const Cursor = Type.String({
  minLength: 1,
  maxLength: 200,
  description: 'The `nextCursor` of the page before; opaque.',
})

export const NextCursor = Type.Unsafe<string | null>({
  type: ['string', 'null'],
  description: 'Where the next page begins, or null at the end.',
})

export const FieldFault = Model(
  'FieldFault',
  Type.Object({
    field: Type.String({ description: 'Its path, such as `options.seed`, or `body`.' }),
    message: Type.String({ description: 'What the field must be, for a person.' }),
  }),
)
export type FieldFault = Static<typeof FieldFault>

export const ApiError = Model(
  'ApiError',
  Type.Object(
    {
      statusCode: Type.Integer({ description: 'The HTTP status, again.' }),
      code: Type.String({ description: 'A stable name, such as `CHAT_NOT_FOUND`.' }),
      error: Type.String({ description: 'The reason phrase of the status.' }),
      message: Type.String({ description: 'What went wrong and what to do, for a person.' }),
      requestId: Type.String({ description: 'Identifies the request in the server’s log.' }),
      retryable: Type.Boolean({ description: 'Whether the same request may succeed later.' }),
      replyId: Type.Optional(
        Type.String({ description: 'The reply that failed, if its message was stored.' }),
      ),
      errors: Type.Optional(
        Type.Array(FieldFault, { description: 'Every field that is wrong, up to 20.' }),
      ),
    },
    { description: 'Any error.' },
  ),
)
export type ApiError = Static<typeof ApiError>

/** The error responses of a route, for its `response` schema. */
export function errors<const C extends readonly number[]>(...codes: C) {
  return Object.fromEntries(codes.map((code) => [code, ApiError])) as {
    [K in C[number]]: typeof ApiError
  }
}
