import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'

const tags = [
  { name: 'auth', description: 'Accounts and sessions.' },
  { name: 'models', description: 'The models that Ollama lists.' },
  { name: 'chats', description: 'A user’s chats.' },
  { name: 'messages', description: 'Messages, and replies as durable resources.' },
  { name: 'health', description: 'For probes.' },
]

/** Models of stream events: no operation refers to them, but generated clients need them. */
const streamModels = ['MessageStart', 'MessageChunk']

/** The names of the components that `part` refers to. */
function referredIn(part: unknown): string[] {
  const names = JSON.stringify(part).matchAll(/"\$ref":"#\/components\/schemas\/([^"/]+)/g)
  return Array.from(names, ([, name]) => name ?? '')
}

/** Removes components that neither an operation nor `also` uses, such as socket payloads. */
function removeUnused(
  schemas: Record<string, unknown>,
  paths: unknown,
  also: readonly string[],
): void {
  const used = new Set([...referredIn(paths), ...also])
  // Iterating a Set also visits what is added during the iteration.
  for (const name of used) {
    for (const referred of referredIn(schemas[name] ?? {})) used.add(referred)
  }
  for (const name of Object.keys(schemas)) {
    if (!used.has(name)) delete schemas[name]
  }
}

/** Serves the API's description, and a page that shows it without loading anything from other hosts. */
export default fp(
  async (fastify) => {
    if (!fastify.config.DOCS) return
    await fastify.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Durable chat',
          description:
            'The backend of an AI chat platform in which a generation is a durable resource: ' +
            'started once, rejoined from any offset, stopped with proof.',
          version: '1.0.0',
          license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
        },
        servers: [{ url: '/', description: 'This server.' }],
        tags,
        components: {
          securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
        },
        security: [{ bearer: [] }],
      },
      refResolver: {
        // Components are named by their `$id`; the default calls them `def-0`.
        buildLocalReference: (json, _baseUri, _fragment, i) =>
          typeof json.$id === 'string' ? json.$id : `def-${i}`,
      },
      transformObject: (documentObject) => {
        if (!('openapiObject' in documentObject)) return documentObject.swaggerObject
        const { openapiObject } = documentObject
        removeUnused(openapiObject.components?.schemas ?? {}, openapiObject.paths, streamModels)
        return openapiObject
      },
    })
    await fastify.register(swaggerUi, { routePrefix: '/docs' })

    let document = ''
    fastify.addHook('onReady', async () => {
      document = JSON.stringify(fastify.swagger())
    })
    fastify.get('/openapi.json', { schema: { hide: true } }, (_request, reply) => {
      reply.type('application/json; charset=utf-8').send(document)
    })
  },
  { name: 'docs', dependencies: ['validation', 'observability', 'security'] },
)
