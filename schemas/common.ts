import { type Static, type TInteger, type TSchema, Type } from '@sinclair/typebox'
import { examples } from './examples.js'

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
export function StringEnum<const V extends readonly string[]>(
  values: V,
  description: string,
  example: V[number],
) {
  return Type.Unsafe<V[number]>({
    type: 'string',
    enum: [...values],
    description,
    examples: [example],
  })
}

export const Id = Type.String({
  pattern: '^[0-9a-f]{24}$',
  description: 'An ObjectId in hex: 24 digits of 0-9 and a-f.',
})

export const Timestamp = Type.String({ format: 'date-time', description: 'ISO 8601, UTC.' })

/**
 * A page's size. A client may leave it out; a handler always has it, since validation fills in the
 * default. plugins/validation.ts checks that its text has digits only.
 */
export const Limit = (otherwise: number): TInteger =>
  Type.Optional(
    Type.Integer({ minimum: 1, maximum: 100, default: otherwise, description: 'A page’s size.' }),
  )

export const Cursor = Type.String({
  minLength: 1,
  maxLength: 200,
  description: 'The `nextCursor` of the page before; opaque.',
  examples: [examples.cursor],
})

export const NextCursor = Type.Unsafe<string | null>({
  type: ['string', 'null'],
  description: 'Where the next page begins, or null at the end.',
})

/** An open enumeration; the documents take its values and their meaning from src/errors.ts. */
export const ErrorCode = Model(
  'ErrorCode',
  Type.String({
    description:
      'What went wrong, by a stable name. Codes may be added: treat others by `retryable`.',
    examples: ['CHAT_NOT_FOUND'],
  }),
)

export const FieldFault = Model(
  'FieldFault',
  Type.Object(
    {
      field: Type.String({ description: 'Its path, such as `options.seed`, or `body`.' }),
      message: Type.String({ description: 'What the field must be, for a person.' }),
    },
    {
      description: 'A field that is wrong.',
      examples: [{ field: 'content', message: 'must not be empty' }],
    },
  ),
)
export type FieldFault = Static<typeof FieldFault>

export const ApiError = Model(
  'ApiError',
  Type.Object(
    {
      statusCode: Type.Integer({ description: 'The HTTP status, again.' }),
      code: ErrorCode,
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
    {
      description: 'Any error.',
      examples: [
        {
          statusCode: 404,
          code: 'CHAT_NOT_FOUND',
          error: 'Not Found',
          message: 'No such chat: see GET /api/ai/chats.',
          requestId: examples.requestId,
          retryable: false,
        },
      ],
    },
  ),
)
export type ApiError = Static<typeof ApiError>

/** Why an event of a socket was refused, or a stream ended before its reply did. */
export const EventFault = Model(
  'EventFault',
  Type.Object(
    {
      code: ErrorCode,
      message: Type.String({ description: 'What went wrong and what to do, for a person.' }),
      retryable: Type.Boolean({ description: 'Whether the same may succeed later.' }),
    },
    {
      description: 'Why an event was refused, or a stream ended before its reply did.',
      examples: [
        {
          code: 'LOGGED_OUT',
          message: 'The session was logged out: log in again.',
          retryable: false,
        },
      ],
    },
  ),
)
