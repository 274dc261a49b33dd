import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { openQueries } from './queries.js'
import { settings } from './settings.js'

/** Bare Fastify with @fastify/jwt and the same queries: no schemas, no log, nothing else. */
const queries = openQueries(settings.dataDir)
const app = Fastify({ keepAliveTimeout: 72_000 })

await app.register(fastifyJwt, {
  secret: settings.key.export(),
  verify: { algorithms: ['HS256'], allowedIss: 'chat', allowedAud: 'chat' },
})
app.addHook('onRequest', async (request) => {
  await request.jwtVerify()
})

const userOf = (user: unknown) => (user as { sub: string }).sub

app.get('/api/auth/profile', async (request) => queries.profile(userOf(request.user)))
app.get<{ Querystring: { limit?: string } }>('/api/ai/chats', async ({ user, query }) => ({
  chats: queries.listChats(userOf(user), Math.min(Number(query.limit ?? 20), 100)),
}))

// The same bytes as the pipe's, which keeps a body and serves it.
let kept: Buffer = Buffer.alloc(0)
app.addContentTypeParser(
  'application/octet-stream',
  { parseAs: 'buffer' },
  (_request, body, done) => done(null, body),
)
app.put<{ Body: Buffer }>('/bytes', async ({ body }) => {
  kept = body
  return { bytes: body.length }
})
app.get('/bytes', (_request, reply) => {
  reply.type('application/json').send(kept)
})

await app.listen({ port: settings.port, host: settings.host })
