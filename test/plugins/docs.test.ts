import { Type } from '@sinclair/typebox'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t from 'tap'
import docs from '../../plugins/docs.js'
import '../../schemas/events.js'
import { models } from '../../schemas/common.js'
import { Message, MessageInput } from '../../schemas/messages.js'
import { parseConfig } from '../../src/config.js'
import { startApp } from '../services/app.js'

t.test('documents what the routes declare, by the models’ own names', async (t) => {
  const app = Fastify({ exposeHeadRoutes: false })
  app.decorate('config', parseConfig({}))
  for (const name of ['observability', 'security']) app.register(fp(async () => {}, { name }))
  app.register(
    fp(
      async (fastify) => {
        for (const model of models.values()) fastify.addSchema(model)
      },
      { name: 'validation' },
    ),
  )
  app.register(docs)
  app.register(async (fastify) => {
    fastify.post(
      '/api/messages/:messageId',
      {
        schema: {
          operationId: 'sendMessage',
          summary: 'Send',
          description: 'Sends.',
          tags: ['messages'],
          params: Type.Object({ messageId: Type.String() }),
          body: MessageInput,
          errors: ['CHAT_NOT_FOUND'],
          response: { 201: Message },
        },
      },
      async () => {
        throw new Error('never called')
      },
    )
  })
  t.teardown(() => app.close())
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const response = await fetch(`${url}/openapi.json`)
  const document = (await response.json()) as {
    openapi: string
    security: unknown
    paths: Record<string, unknown>
    components: { schemas: Record<string, object> }
  }

  t.equal(response.headers.get('content-type'), 'application/json; charset=utf-8')
  t.equal(document.openapi, '3.1.0')
  t.strictSame(document.security, [{ bearer: [] }])
  t.strictSame(Object.keys(document.paths), ['/api/messages/{messageId}'], 'no route of its own')
  t.match(document.paths['/api/messages/{messageId}'], {
    post: {
      requestBody: {
        content: { 'application/json': { schema: { $ref: '#/components/schemas/MessageInput' } } },
      },
      responses: {
        201: { content: { 'application/json': { schema: { $ref: /\/Message$/ } } } },
        404: {
          description: '`CHAT_NOT_FOUND`.',
          content: { 'application/json': { schema: { $ref: /\/ApiError$/ } } },
        },
      },
    },
  })
  const names = Object.keys(document.components.schemas)
  t.strictSame(names.sort(), [
    'ApiError',
    'ErrorCode',
    'FieldFault',
    'GenerationOptions',
    'Message',
    'MessageFault',
    'MessageInput',
    'MessageRole',
    'MessageStatus',
    'Usage',
  ])
  t.notMatch(JSON.stringify(document), /\$id|def-\d/)

  t.equal((await fetch(`${url}/openapi.json`, { method: 'HEAD' })).status, 404)
  const page = await fetch(`${url}/docs`)
  t.match(page.headers.get('content-type'), /^text\/html/)
  t.notMatch(await page.text(), /(?:https?:)?\/\/[a-z0-9-]+\.[a-z]/i)
  for (const [path, status] of [
    ['/docs/static/swagger-ui-bundle.js', 200],
    ['/docs/static/%2e%2e/package.json', 404],
  ] as const) {
    const file = await fetch(url + path)
    t.equal(file.status, status, path)
    // A body that is not read keeps its connection busy, and the server from closing.
    await file.arrayBuffer()
  }
})

t.test('DOCS=false takes every document and its page away', async (t) => {
  const paths = [
    '/openapi.json',
    '/docs',
    '/docs/',
    '/docs/json',
    '/docs/yaml',
    '/docs/static/index.html',
    '/docs/static/swagger-ui-bundle.js',
  ]
  const shown = await startApp(t)
  const hidden = await startApp(t, { DOCS: 'false' })
  for (const path of paths) {
    const page = await fetch(`${shown.url}${path}`)
    await page.arrayBuffer()
    t.equal(page.status, 200, path)
    const { status, headers } = await fetch(`${hidden.url}${path}`)
    t.equal(status, 404, `${path} without documents`)
    t.match(headers.get('content-type'), /^application\/json/)
  }
})
