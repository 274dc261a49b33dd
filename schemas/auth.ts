import { type Static, Type } from '@sinclair/typebox'
import { Closed, Id, Model, StringEnum, Timestamp } from './common.js'
import { examples } from './examples.js'

const Username = Type.String({
  minLength: 2,
  maxLength: 64,
  pattern: '^[A-Za-z0-9._-]+$',
  description: 'Letters, digits, dots, underscores and hyphens alone; unique whatever its case.',
})

/** Control, zero-width and bidirectional characters. */
const invisible =
  '\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f' +
  '\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb'
const visible = `[^\\s@${invisible}]+`

const Email = Type.String({
  maxLength: 254,
  pattern: `^${visible}@${visible}\\.${visible}$`,
  description: 'An e-mail address, without invisible characters; unique whatever its case.',
})

const Password = Type.String({
  minLength: 8,
  maxLength: 72,
  description:
    '8 characters to 72 bytes of UTF-8, compared in their normal form (NFC). Not a common one, and ' +
    'without the username.',
})

export const RegisterInput = Model(
  'RegisterInput',
  Closed(
    { username: Username, email: Email, password: Password },
    {
      description: 'A new account.',
      examples: [
        {
          username: examples.user.username,
          email: examples.user.email,
          password: examples.password,
        },
      ],
    },
  ),
)
export type RegisterInput = Static<typeof RegisterInput>

export const LoginInput = Model(
  'LoginInput',
  Closed(
    {
      email: Type.Optional(Email),
      username: Type.Optional(Username),
      password: Type.String({ minLength: 1, maxLength: 1024 }),
    },
    {
      description: 'A password and one of email, username.',
      minProperties: 2,
      maxProperties: 2,
      examples: [{ email: examples.user.email, password: examples.password }],
    },
  ),
)
export type LoginInput = Static<typeof LoginInput>

export const RefreshInput = Model(
  'RefreshInput',
  Closed(
    { refreshToken: Type.String({ minLength: 1, maxLength: 512 }) },
    {
      description: 'The refresh token of the newest pair.',
      examples: [{ refreshToken: examples.tokenPair.refreshToken }],
    },
  ),
)
export type RefreshInput = Static<typeof RefreshInput>

export const AccountDeletionInput = Model(
  'AccountDeletionInput',
  Closed(
    { password: Type.String({ minLength: 1, maxLength: 1024 }) },
    {
      description: 'The account’s password, as confirmation.',
      examples: [{ password: examples.password }],
    },
  ),
)
export type AccountDeletionInput = Static<typeof AccountDeletionInput>

export const SessionEnd = Model(
  'SessionEnd',
  StringEnum(
    ['LOGGED_OUT', 'TOKEN_REUSED', 'ACCOUNT_DELETED'] as const,
    'Why a session ended, as its sockets, streams and waiting requests are told.',
    'LOGGED_OUT',
  ),
)
export type SessionEnd = Static<typeof SessionEnd>

export const User = Model(
  'User',
  Type.Object(
    { id: Id, username: Type.String(), email: Type.String(), createdAt: Timestamp },
    { description: 'An account.', examples: [examples.user] },
  ),
)
export type User = Static<typeof User>

const tokenPair = {
  token: Type.String({ description: 'The access token: `Authorization: Bearer <token>`.' }),
  refreshToken: Type.String({ description: 'Valid for one refresh, which returns the next.' }),
  expiresIn: Type.Integer({ description: 'How long the access token is valid, in seconds.' }),
}

export const TokenPair = Model(
  'TokenPair',
  Type.Object(tokenPair, {
    description: 'A session’s tokens.',
    examples: [examples.tokenPair],
  }),
)
export type TokenPair = Static<typeof TokenPair>

export const SignedIn = Model(
  'SignedIn',
  Type.Object(
    { ...tokenPair, user: User },
    {
      description: 'A new session’s tokens, and whose it is.',
      examples: [{ ...examples.tokenPair, user: examples.user }],
    },
  ),
)
export type SignedIn = Static<typeof SignedIn>
