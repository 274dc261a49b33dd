import fastifyJwt from '@fastify/jwt'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { createPasswords } from '../src/auth/passwords.js'
import { createSessions, type Sessions } from '../src/auth/sessions.js'
import { type Access, accessRules, createTokens } from '../src/auth/tokens.js'
import { AppError } from '../src/errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    sessions: Sessions
    /**
     * A hook that wants an access token and sets `request.session`.
     * @throws AppError UNAUTHORIZED, TOKEN_EXPIRED.
     */
    authenticate(request: FastifyRequest): Promise<void>
  }
  interface FastifyRequest {
    /** The session of the access token; set where `authenticate` is a hook. */
    session: Access
  }
}

/** Accounts, sessions, and the hook that demands a token. */
export default fp(
  async (fastify) => {
    const { config, store, cache, jwtSecret, log } = fastify

    await fastify.register(fastifyJwt, {
      secret: jwtSecret,
      sign: { algorithm: accessRules.algorithm },
      verify: {
        algorithms: [accessRules.algorithm],
        allowedIss: accessRules.issuer,
        allowedAud: accessRules.audience,
        requiredClaims: [...accessRules.requiredClaims],
      },
    })
    const sessions = await createSessions({
      store,
      cache,
      tokens: createTokens(jwtSecret, config.JWT_EXPIRES_IN, {
        sign: (claims) => fastify.jwt.sign(claims),
        verify: (token) => fastify.jwt.verify(token),
      }),
      passwords: await createPasswords(config.NODE_ENV === 'test' ? 4 : 12),
      maxLoginFailures: config.RATE_LIMIT_LOGIN_FAILURES,
      log,
    })
    fastify.decorate('sessions', sessions)

    fastify.decorateRequest('session')
    fastify.decorate('authenticate', async (request: FastifyRequest) => {
      const token = /^Bearer +([^\s]+)$/i.exec(request.headers.authorization ?? '')?.[1]
      if (token === undefined) throw new AppError('UNAUTHORIZED')
      request.session = await sessions.authenticate(token)
    })

    fastify.addHook('onClose', () => sessions.close())
  },
  { name: 'auth', dependencies: ['db', 'redis'] },
)
