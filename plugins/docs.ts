import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'
import { examples } from '../schemas/examples.js'
import type { ErrorCode } from '../src/errors.js'
import { type ApiDocument, completeDocument, type DocumentedRoute } from '../src/http/openapi.js'
import { product, productVersion } from '../src/http/product.js'
import { tryOut } from '../src/http/try-out.js'

declare module 'fastify' {
  interface FastifySchema {
    /** The errors of its own that a route may answer with, for its document. */
    errors?: readonly ErrorCode[]
    /** Whether a request may have no body, for its document. */
    bodyIsOptional?: boolean
  }
}

const { title, license } = product

const description = `The backend of an AI chat platform in which a generation is a durable resource: started
once, rejoined from any offset, stopped with proof.

Register or sign in, then send the access token with every request: \`Authorization: Bearer <token>\`. On the
page at \`/docs\` the examples work as they are, from top to bottom: it sends the token, the chat and the reply
that the server has answered in place of those of the examples.

**Errors** have one shape, [ApiError](#/components/schemas/ApiError). Its \`code\` is stable, and
[ErrorCode](#/components/schemas/ErrorCode) has the cause and the remedy of each. Besides the errors that an
operation lists, any request may be answered 400 \`BAD_REQUEST\` or \`BAD_URL\`, 404 \`NOT_FOUND\`, 405
\`METHOD_NOT_ALLOWED\`, 408 \`REQUEST_TIMEOUT\` and 431 \`HEADERS_TOO_LARGE\` in that shape.`

const tags = [
  { name: 'auth', description: 'Accounts, tokens, and who one is.' },
  { name: 'models', description: 'The models that Ollama lists.' },
  {
    name: 'chats',
    description: 'A user’s chats, their messages, and replies as durable resources.',
  },
  { name: 'health', description: 'For probes.' },
  { name: 'account', description: 'Ends of sessions, and of an account. To go on, sign in again.' },
]

const logo = `<svg xmlns="http://www.w3.org/2000/svg" width="190" height="40" viewBox="0 0 190 40">
<path d="M4 8h28v18H18l-7 7v-7H4z" fill="#49cc90"/><path d="M10 14h16M10 20h10" stroke="#1b1b1b" stroke-width="3"/>
<text x="42" y="27" font-family="sans-serif" font-size="20" font-weight="600" fill="#fff">${title}</text></svg>`
const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 4 36 30"><path d="M4 8h28v18H18l-7 7v-7H4z" fill="#49cc90"/></svg>`

/** Sends real ids and tokens in place of the examples'. */
const tryOutScript = `window.tryOut = (${tryOut})(${JSON.stringify({
  chatId: examples.chat.id,
  replyId: examples.reply.id,
  refreshToken: examples.tokenPair.refreshToken,
})})`

/** Called in the page, where `tryOutScript` has run. */
declare const window: { tryOut: ReturnType<typeof tryOut> }

/** Serves the API's description, and a page that shows it without loading anything from other hosts. */
export default fp(
  async (fastify) => {
    if (!fastify.config.DOCS) return
    const routes = new Map<string, DocumentedRoute>()
    fastify.addHook('onRoute', ({ method, schema }) => {
      if (schema?.operationId) routes.set(schema.operationId, { method, schema })
    })

    await fastify.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title,
          description,
          version: await productVersion(),
          contact: { name: 'The developers of durable-chat-backend' },
          license,
        },
        servers: [{ url: '/', description: 'This server.' }],
        tags,
        components: {
          securitySchemes: {
            bearer: {
              type: 'http',
              scheme: 'bearer',
              bearerFormat: 'JWT',
              description: 'The `token` of signing in or of a refresh.',
            },
          },
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
        // Its declared type also covers what this document does not have, such as references to paths.
        completeDocument(openapiObject as unknown as ApiDocument, routes, {
          num_ctx: fastify.config.MAX_NUM_CTX,
          num_predict: fastify.config.MAX_NUM_PREDICT,
        })
        return openapiObject
      },
    })
    await fastify.register(swaggerUi, {
      routePrefix: '/docs',
      theme: {
        title: `${title}: the API`,
        favicon: [
          { filename: 'icon.svg', rel: 'icon', type: 'image/svg+xml', sizes: 'any', content: icon },
        ],
        js: [{ filename: 'try-out.js', content: tryOutScript }],
      },
      logo: { type: 'image/svg+xml', content: logo, href: '/docs' },
      uiConfig: {
        deepLinking: true,
        displayOperationId: true,
        tryItOutEnabled: true,
        requestInterceptor: (request) => window.tryOut.complete(request),
        responseInterceptor: (response) => window.tryOut.learn(response),
      },
    })

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
