import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { TokenPair } from '../../schemas/auth.js'
import { AppError } from '../errors.js'
import type { SessionRow } from '../stores/store.js'

export interface AccessClaims {
  iss: string
  aud: string
  typ: string
  sub: string
  sid: string
  jti: string
  iat: number
  exp: number
}

/** The signer of JWTs: both take and give claims, and throw. */
export interface Jwt {
  sign: (claims: AccessClaims) => string
  /** @throws Error for whatever is not a good token; its code is FAST_JWT_EXPIRED for a late one. */
  verify: (token: string) => unknown
}

/** What a JWT must be to be let in, for whoever makes the verifier. */
export const accessRules = {
  algorithm: 'HS256',
  issuer: 'chat',
  audience: 'chat',
  requiredClaims: ['iss', 'aud', 'typ', 'sub', 'sid', 'jti', 'iat', 'exp'],
} as const

export interface Access {
  userId: string
  sessionId: string
  expiresAt: Date
}

/** Tokens that are known to be right, at most 2 KB each. */
const maxKnown = 10_000
/** Longer ones are no token of ours, and not worth hashing. */
const maxTokenLength = 2048
/** The last character of a signature bears four bits only: of four that decode alike, the right one. */
const canonicalEnd = /[AEIMQUYcgkosw048]$/

export type Tokens = ReturnType<typeof createTokens>

/**
 * Access and refresh tokens. Both are functions of the session's row and the secret alone, so the
 * same generation gives the same pair again and nothing secret is stored.
 * @param lifeSeconds of an access token.
 */
export function createTokens(secret: string, lifeSeconds: number, jwt: Jwt) {
  const refreshKey = derive('refresh token')
  const jtiKey = derive('access token id')
  // By its text a token is no less right the second time, only perhaps late.
  const known = new LRUCache<string, Access>({ max: maxKnown })

  function derive(label: string): Buffer {
    return Buffer.from(hkdfSync('sha256', secret, '', `chat ${label}`, 32))
  }

  function refreshToken(sessionId: string, generation: number): string {
    const mac = createHmac('sha256', refreshKey).update(`${sessionId}|${generation}`)
    return `${sessionId}.${generation}.${mac.digest('base64url')}`
  }

  return {
    /** An access token's life, in milliseconds. */
    lifeMs: lifeSeconds * 1000,

    /**
     * The pair that belongs to a session's generation.
     * @param now in milliseconds since 1970.
     */
    pair(session: Omit<SessionRow, 'expiresAt' | 'spentAt'>, now = Date.now()): TokenPair {
      const { id, userId, generation, rotatedAt } = session
      const iat = Math.floor(rotatedAt.getTime() / 1000)
      const exp = iat + lifeSeconds
      const jti = createHmac('sha256', jtiKey).update(`${id}|${generation}`).digest('base64url')
      const token = jwt.sign({
        iss: accessRules.issuer,
        aud: accessRules.audience,
        typ: 'access',
        sub: userId,
        sid: id,
        jti,
        iat,
        exp,
      })
      const expiresIn = Math.max(0, Math.ceil(exp - now / 1000))
      return { token, refreshToken: refreshToken(id, generation), expiresIn }
    },

    /**
     * Whom a token speaks for, if its session is still there.
     * @throws AppError UNAUTHORIZED, or TOKEN_EXPIRED.
     */
    readAccess(token: string): Access {
      const before = known.get(token)
      if (before && Date.now() <= before.expiresAt.getTime()) return before
      if (token.length > maxTokenLength || !canonicalEnd.test(token)) {
        throw new AppError('UNAUTHORIZED')
      }
      const claims = verify(jwt, token)
      if (!isAccessClaims(claims)) throw new AppError('UNAUTHORIZED')
      const { sub, sid, exp } = claims
      const access = { userId: sub, sessionId: sid, expiresAt: new Date(exp * 1000) }
      // The clock may be set back to before one that names when it begins.
      if (!('nbf' in claims)) known.set(token, access)
      return access
    },

    /** What a refresh token of this server says, or undefined. */
    readRefresh(token: string): { sessionId: string; generation: number } | undefined {
      const parts = /^([0-9a-f]{24})\.(0|[1-9]\d{0,8})\.[\w-]{43}$/.exec(token)
      const sessionId = parts?.[1]
      if (!sessionId) return undefined
      const generation = Number(parts[2])
      const expected = Buffer.from(refreshToken(sessionId, generation))
      const given = Buffer.from(token)
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined
      return { sessionId, generation }
    },
  }
}

function verify(jwt: Jwt, token: string): unknown {
  try {
    return jwt.verify(token)
  } catch (error) {
    // Whatever a verifier dislikes is the token's fault, never the server's.
    const late = error instanceof Error && 'code' in error && error.code === 'FAST_JWT_EXPIRED'
    throw new AppError(late ? 'TOKEN_EXPIRED' : 'UNAUTHORIZED', { cause: error })
  }
}

function isAccessClaims(claims: unknown): claims is AccessClaims {
  if (typeof claims !== 'object' || claims === null) return false
  const { typ, sub, sid, jti, iat, exp } = claims as Record<string, unknown>
  return (
    typ === 'access' &&
    isId(sub) &&
    isId(sid) &&
    typeof jti === 'string' &&
    isTime(iat) &&
    isTime(exp)
  )
}

const isId = (value: unknown) => typeof value === 'string' && /^[0-9a-f]{24}$/.test(value)
/** Seconds that a Date can hold. */
const isTime = (value: unknown) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value < 8.64e12
