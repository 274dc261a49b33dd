import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { AppError, type ErrorCode, errorBody } from '../src/errors.js'

/** Fastify's own errors that a client causes. */
const codesOfFastify: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_VALIDATION: 'VALIDATION_FAILED',
  FST_ERR_BAD_URL: 'BAD_URL',
  // No id is this long.
  FST_ERR_MAX_PARAM_LENGTH: 'NOT_FOUND',
  FST_ERR_NOT_FOUND: 'NOT_FOUND',
  FST_ERR_CTP_BODY_TOO_LARGE: 'BODY_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'UNSUPPORTED_MEDIA_TYPE',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'BAD_JSON',
}

/** Errors of other plugins are mapped by status. */
const codesOfStatus: Readonly<Record<number, ErrorCode>> = {
  400: 'VALIDATION_FAILED',
  401: 'UNAUTHORIZED',
  404: 'NOT_FOUND',
  413: 'BODY_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
}

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const

/** Answers every error in one shape, without internal details. */
export default fp(
  async (fastify) => {
    fastify.setErrorHandler<FastifyError>((error, request, reply) =>
      answer(asAppError(error), request, reply),
    )
    fastify.setNotFoundHandler((request, reply) => refuse(request, reply))
    // Answers 404 before the body is parsed, but after the origin is checked.
    fastify.addHook('preParsing', (request, reply, _payload, done) => {
      if (request.is404) refuse(request, reply)
      else done()
    })

    function refuse(request: FastifyRequest, reply: FastifyReply): FastifyReply {
      const allowed = allowedMethods(fastify, request.url)
      if (allowed.length === 0) return answer(new AppError('NOT_FOUND'), request, reply)
      reply.header('Allow', allowed.join(', '))
      return answer(new AppError('METHOD_NOT_ALLOWED'), request, reply)
    }
  },
  { name: 'errors' },
)

function asAppError(error: FastifyError): AppError {
  if (error instanceof AppError) return error
  const { code, statusCode = 500 } = error
  const known = codesOfFastify[code] ?? codesOfStatus[statusCode]
  if (!known) return new AppError('INTERNAL', { cause: error })
  return new AppError(known)
}

function answer(error: AppError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { statusCode, code, retryAfter, cause } = error
  // A full queue or a shutdown is not a failure.
  if (statusCode === 503 && !cause) request.log.warn({ code }, 'request refused')
  else if (statusCode >= 500) request.log.error({ err: error }, 'request failed')
  // Logs the code only: a message may quote the request.
  else request.log.debug({ code }, 'request refused')
  reply.code(statusCode).header('X-Request-Id', request.id)
  if (retryAfter !== undefined) reply.header('Retry-After', retryAfter)
  if (statusCode === 401) reply.header('WWW-Authenticate', 'Bearer')
  return reply.type('application/json; charset=utf-8').send(errorBody(error, request.id))
}

/** The methods that a path supports; catch-all routes do not count. */
function allowedMethods(fastify: FastifyInstance, url: string): string[] {
  const path = url.split('?', 1)[0] ?? url
  return methods.filter((method) => {
    const route = fastify.findRoute({ method, url: path })
    return route !== null && !('*' in route.params)
  })
}
