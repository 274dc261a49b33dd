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

/** Signs and verifies JWTs. */
export interface Jwt {
  sign: (claims: AccessClaims) => string
  /** @throws Error for a bad token; its code is FAST_JWT_EXPIRED for an expired one. */
  verify: (token: string) => unknown
}

/** Algorithm and claims of access tokens, for signing and for verifying them. */
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

/** How many verified tokens are remembered, of at most 2 KB each. */
const maxKnown = 10_000
/** This server makes no longer tokens. */
const maxTokenLength = 2048
/** Four last characters of a signature decode alike; this server writes only these. */
const canonicalEnd = /[AEIMQUYcgkosw048]$/

export type Tokens = ReturnType<typeof createTokens>

/**
 * Access and refresh tokens. Both follow from the session's row and the secret alone: a generation
 * always gives the same pair, and nothing secret is stored.
 * @param lifeSeconds of an access token.
 */
export function createTokens(secret: string, lifeSeconds: number, jwt: Jwt) {
  const refreshKey = derive('refresh token')
  const jtiKey = derive('access token id')
  // A verified token stays right until it expires.
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
     * Reads an access token; the caller checks that its session is live.
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
      // The clock may be set back to before a token's `nbf`.
      if (!('nbf' in claims)) known.set(token, access)
      return access
    },

    /** The claim of a refresh token that this server made, else undefined. */
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
    // Every error of the verifier is the token's fault, and answered 401.
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
