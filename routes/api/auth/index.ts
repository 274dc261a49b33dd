import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import {
  AccountDeletionInput,
  LoginInput,
  RefreshInput,
  RegisterInput,
  SignedIn,
  TokenPair,
  User,
} from '../../../schemas/auth.js'
import { AppError, invalid } from '../../../src/errors.js'

const routes: FastifyPluginAsyncTypebox = async (fastify) => {
  const { accounts, sessions, authenticate, limitCredentials, limitRequests } = fastify

  fastify.post(
    '/register',
    {
      onRequest: limitCredentials,
      schema: {
        operationId: 'registerUser',
        tags: ['auth'],
        summary: 'Register an account',
        description:
          'Creates an account and signs in with it. Username and email are unique. A password that is ' +
          'among the commonest or contains the username is refused.',
        security: [],
        body: RegisterInput,
        errors: [
          'RATE_LIMITED',
          'USER_TAKEN',
          'PASSWORD_TOO_WEAK',
          'PASSWORD_TOO_LONG',
          'TOO_BUSY',
          'STORAGE_FULL',
        ],
        response: { 201: SignedIn },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await sessions.register(request.body, request.network)),
  )

  fastify.post(
    '/login',
    {
      onRequest: limitCredentials,
      schema: {
        operationId: 'loginUser',
        tags: ['auth'],
        summary: 'Sign in',
        description:
          'With a password and either the email or the username. An address with too many failures is ' +
          'refused that name for some minutes; after many failures from everywhere an address that is ' +
          'new to the account waits up to 30 seconds (429, `Retry-After`).',
        security: [],
        body: LoginInput,
        errors: ['RATE_LIMITED', 'BAD_CREDENTIALS', 'TOO_BUSY', 'STORAGE_FULL'],
        response: { 200: SignedIn },
      },
      // The schema counts fields to require one of two names; the handler says which.
      attachValidation: true,
    },
    ({ body, network, validationError }) => {
      if (validationError) throw withNameFault(validationError, body)
      return sessions.login(body, network)
    },
  )

  fastify.post(
    '/refresh',
    {
      onRequest: limitCredentials,
      schema: {
        operationId: 'refreshSession',
        tags: ['auth'],
        summary: 'Refresh the tokens',
        description:
          'Answers with a new pair; the old refresh token is spent. A spent one gives the same pair ' +
          'again for 10 seconds, and after that ends its session.',
        security: [],
        body: RefreshInput,
        errors: ['RATE_LIMITED', 'BAD_REFRESH_TOKEN', 'STORAGE_FULL'],
        response: { 200: TokenPair },
      },
    },
    (request) => sessions.refresh(request.body.refreshToken, request.network),
  )

  fastify.post(
    '/logout',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'logoutUser',
        tags: ['account'],
        summary: 'Sign out',
        description: 'Ends the session: its tokens are refused and its sockets are closed.',
        errors: ['STORAGE_FULL'],
        response: { 204: Type.Null({ description: 'Signed out.' }) },
      },
    },
    async (request, reply) => {
      await sessions.logout(request.session, request.network)
      return reply.code(204).send(null)
    },
  )

  fastify.post(
    '/logout-everywhere',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'logoutEverywhere',
        tags: ['account'],
        summary: 'Sign out on all devices',
        description:
          'Ends every session of the account, closes their sockets and stops the replies that run.',
        errors: ['STORAGE_FULL'],
        response: { 204: Type.Null({ description: 'Signed out everywhere.' }) },
      },
    },
    async (request, reply) => {
      await accounts.logoutEverywhere(request.session.userId, request.network)
      return reply.code(204).send(null)
    },
  )

  fastify.get(
    '/profile',
    {
      onRequest: [authenticate, limitRequests],
      schema: {
        operationId: 'getProfile',
        tags: ['auth'],
        summary: 'Read the profile',
        description: 'The account of the access token.',
        errors: ['RATE_LIMITED'],
        response: { 200: User },
      },
    },
    (request) => sessions.profile(request.session.userId),
  )

  fastify.delete(
    '/profile',
    {
      onRequest: [limitCredentials, authenticate],
      schema: {
        operationId: 'deleteAccount',
        tags: ['account'],
        summary: 'Delete the account',
        description:
          'Stops the replies that run, then removes the account with its sessions, chats and ' +
          'messages. A wrong password counts like one at signing in.',
        body: AccountDeletionInput,
        errors: ['RATE_LIMITED', 'BAD_CREDENTIALS', 'TOO_BUSY', 'STORAGE_FULL'],
        response: { 204: Type.Null({ description: 'Deleted.' }) },
      },
    },
    async (request, reply) => {
      await accounts.delete(request.session.userId, request.body.password, request.network)
      return reply.code(204).send(null)
    },
  )
}

/** Names what is wrong with the names of a login, where the schema only counts fields. */
function withNameFault(error: Error, body: Partial<LoginInput> | null | undefined): Error {
  const names = [body?.email, body?.username].filter((name) => name !== undefined)
  if (names.length === 1 || !(error instanceof AppError)) return error
  const message = names.length === 0 ? 'is missing' : 'are both there: send one of them'
  const others = (error.errors ?? []).filter(({ field }) => field !== 'body')
  return invalid([{ field: 'email, username', message }, ...others])
}

export default routes
