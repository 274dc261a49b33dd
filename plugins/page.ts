import { existsSync } from 'node:fs'
import { join } from 'node:path'
import staticFiles from '@fastify/static'
import type { FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify'
import fp from 'fastify-plugin'
import helmet from 'helmet'
import { AppError } from '../src/errors.js'
import { headersOf } from '../src/http/headers-of.js'

/** The folder that scripts/build-page.js writes. */
const root = join(import.meta.dirname, '../page')

/** The addresses of the page itself, which decides what it shows there. */
const addresses = ['/', '/chat/:chatId']

/** Nothing inline, nothing from another host, and no text that becomes HTML or script. */
const directives = {
  'default-src': ["'none'"],
  'script-src': ["'self'"],
  'style-src': ["'self'"],
  'img-src': ["'self'"],
  // In browsers of today this lets the page's own WebSocket in too.
  'connect-src': ["'self'"],
  'base-uri': ["'none'"],
  'form-action': ["'none'"],
  'frame-ancestors': ["'none'"],
  'require-trusted-types-for': ["'script'"],
  'trusted-types': ["'none'"],
}

/** Serves the page of web/page/ to browsers. */
export default fp(
  async (fastify) => {
    if (!fastify.config.PAGE) return
    if (!existsSync(join(root, 'index.html'))) {
      return fastify.log.warn('the page is not built: run `npm run build`, or set PAGE=false')
    }
    const policy = headersOf(helmet.contentSecurityPolicy({ useDefaults: false, directives }))
    // A scope of its own, since the documentation serves its own files.
    await fastify.register(async (scope) => {
      scope.addHook('onRequest', (_request, reply, done) => {
        reply.header('Vary', 'Accept, Accept-Encoding, Origin')
        done()
      })
      await scope.register(staticFiles, {
        root: join(root, 'assets'),
        prefix: '/assets/',
        index: false,
        preCompressed: true,
        // Reached by the names of what they are made of.
        allowedPath: (path) => !/\.(?:br|gz)$/.test(path),
        // Their names are hashes of what they hold.
        immutable: true,
        maxAge: '1y',
      })
      const options: RouteShorthandOptions = {
        schema: { hide: true },
        onRequest: (_request, reply, done) => {
          reply.headers(policy)
          done()
        },
      }
      const sendPage = (request: FastifyRequest, reply: FastifyReply) => {
        if (request.accepts().type(['html', 'json']) !== 'html') throw new AppError('NOT_FOUND')
        reply.header('Cache-Control', 'no-cache')
        return reply.sendFile('index.html', root, { cacheControl: false })
      }
      for (const address of addresses) scope.get(address, options, sendPage)
    })
  },
  { name: 'page', dependencies: ['errors', 'observability', 'security', 'streaming'] },
)
