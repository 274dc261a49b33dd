import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { errorTable } from '../src/errors.js'
import { api, register, startApp } from './services/app.js'

interface Operation {
  operationId?: string
  tags?: string[]
  summary?: string
  description?: string
  security?: unknown[]
  parameters?: { in: string; required: boolean; schema: Schema }[]
  requestBody?: { required: boolean; content: Record<string, { schema: Schema }> }
  responses: Record<
    string,
    { headers?: Record<string, Schema>; content?: Record<string, { schema?: Schema }> }
  >
}

interface Schema {
  $ref?: string
  enum?: string[]
  description?: string
  [keyword: string]: unknown
}

interface Document {
  openapi: string
  info: { title: string; version: string; license?: { name: string; url: string } }
  servers: { url: string }[]
  security: unknown[]
  tags: { name: string; description: string }[]
  components: { schemas: Record<string, Schema> }
  paths: Record<string, Record<string, Operation>>
}

const publicOperations = [
  'registerUser',
  'loginUser',
  'refreshSession',
  'getLiveness',
  'getReadiness',
]
const documentedMethods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
const componentPrefix = '#/components/schemas/'

/** Every `$ref` in a document. */
function references(part: unknown): string[] {
  return Array.from(JSON.stringify(part).matchAll(/"\$ref":"([^"]+)"/g), ([, ref]) => ref ?? '')
}

/** The JSON bodies of an operation, with the schema of each. */
function jsonBodies({ requestBody, responses }: Operation) {
  const all = [
    ['request', requestBody?.content] as const,
    ...Object.entries(responses).map(([status, { content }]) => [status, content] as const),
  ]
  return all.flatMap(([at, content]) => {
    const schema = content?.['application/json']?.schema
    return schema ? [{ at, schema }] : []
  })
}

t.test('the OpenAPI document', async (t) => {
  const routes: { method: string; path: string }[] = []
  const { url } = await startApp(t, {}, (app) => {
    app.addHook('onRoute', ({ method, url }) => {
      const path = url.replace(/:(\w+)/g, '{$1}')
      for (const one of [method].flat()) routes.push({ method: one, path })
    })
  })
  const call = api(url)
  const { status, headers, body: document } = await call<Document>('GET', '/openapi.json')
  t.equal(status, 200)
  t.match(headers.get('content-type'), /^application\/json/)

  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      operation,
    })),
  )

  t.test('is 3.1, with a license, a server that is relative and a bearer token', async (t) => {
    t.match(document.openapi, /^3\.1\./)
    t.match(document.info.license, { name: String, url: /^https:/ })
    t.strictSame(
      document.servers.map((server) => server.url),
      ['/'],
    )
    t.strictSame(document.security, [{ bearer: [] }])
  })

  t.test('names and describes each operation', async (t) => {
    t.ok(operations.length > 10)
    const ids = operations.map(({ operation }) => operation.operationId)
    t.equal(new Set(ids).size, ids.length, 'operation ids are unique')
    const tagNames = document.tags.map((tag) => tag.name)
    for (const { name, operation } of operations) {
      t.match(operation.operationId, /^[a-z][A-Za-z0-9]*$/, `${name} has a camelCase id`)
      t.equal(operation.tags?.length, 1, `${name} has one tag`)
      t.ok(tagNames.includes(operation.tags?.[0] ?? ''), `${name} has a tag that is described`)
      t.ok(operation.summary, `${name} has a summary`)
      t.ok(operation.description, `${name} has a description`)
    }
  })

  t.test('says which operations want no token', async (t) => {
    for (const { name, operation } of operations) {
      const isPublic = publicOperations.includes(operation.operationId ?? '')
      t.strictSame(operation.security, isPublic ? [] : undefined, name)
    }
  })

  t.test('has a named model for every body', async (t) => {
    for (const { name, operation } of operations) {
      for (const { at, schema } of jsonBodies(operation)) {
        t.match(schema.$ref, new RegExp(`^${componentPrefix}\\w+$`), `${name} ${at}`)
      }
      const [created, accepted] = ['201', '202'].map(
        (status) => operation.responses[status]?.content?.['application/json']?.schema,
      )
      if (accepted) t.strictSame(accepted, created, `${name} answers 202 as it answers 201`)
    }
  })

  t.test('has components whose names no generator owns, and no dangling reference', async (t) => {
    const names = Object.keys(document.components.schemas)
    for (const name of names.filter((name) => name !== 'ApiError')) {
      t.notMatch(name, /(?:Request|Responses?|Data|Errors?)$/, name)
      t.notMatch(name, /^def-/)
    }
    for (const reference of new Set(references(document))) {
      t.match(reference, /^#\/components\//)
      const keys = reference.split('/').slice(1)
      const target = keys.reduce<unknown>((part, key) => Object(part)[key], document)
      t.ok(target, reference)
    }
  })

  t.test('keeps the stream’s events and no socket’s payload', async (t) => {
    const names = Object.keys(document.components.schemas)
    const used = new Set(references(document))
    t.strictSame(
      names.filter((name) => !used.has(componentPrefix + name)),
      [],
    )
    t.ok(used.has(`${componentPrefix}MessageStart`) && used.has(`${componentPrefix}MessageChunk`))
  })

  t.test('wants no parameter that has a default, and no body that may be left out', async (t) => {
    for (const { name, operation } of operations) {
      for (const { in: place, required, schema } of operation.parameters ?? []) {
        t.equal(required, place === 'path', `${name} ${place}`)
        if (schema.default !== undefined) t.notOk(required)
      }
    }
    const create = operations.find(({ operation }) => operation.operationId === 'createChat')
    t.equal(create?.operation.requestBody?.required, false)
    const call = api(url, (await register(url)).token)
    for (const body of [undefined, null, {}]) {
      t.equal((await call('POST', '/api/ai/chats', body)).status, 201)
    }
  })

  t.test('has one stream, without a schema, whose errors are JSON', async (t) => {
    const stream = operations.find(({ operation }) => operation.operationId === 'streamMessage')
    const { '200': success, ...errors } = stream?.operation.responses ?? {}
    t.same(success?.content?.['text/event-stream']?.schema, {})
    t.match(stream?.operation.description, `(${componentPrefix}StreamEvent)`)
    for (const [status, { content }] of Object.entries(errors)) {
      t.same(Object.keys(content ?? {}), ['application/json'], status)
    }
    for (const name of ['MessageStartFrame', 'MessageChunkFrame', 'MessageFrame', 'FaultFrame']) {
      t.ok(references(document.components.schemas.StreamEvent).includes(componentPrefix + name))
    }
  })

  t.test('has each value of an enumeration in one of them', async (t) => {
    const values = Object.values(document.components.schemas).flatMap((model) => model.enum ?? [])
    t.ok(values.length > 5)
    t.equal(new Set(values).size, values.length, 'Go names constants by their values alone')
  })

  t.test('tells cause and remedy of each error, and its version is the package’s', async (t) => {
    const { ErrorCode } = document.components.schemas
    t.equal(ErrorCode?.enum, undefined, 'codes may be added')
    for (const { code, cause, remedy } of errorTable) {
      t.match(ErrorCode?.description, `\`${code}\``)
      t.match(ErrorCode?.description, `${cause} | ${remedy} |`)
    }
    const manifest = readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')
    t.equal(document.info.version, JSON.parse(manifest).version)
  })

  t.test('tells of the headers that a client acts on', async (t) => {
    const user = await register(url)
    const { body: chat } = await api(url, user.token)<{ id: string }>('POST', '/api/ai/chats')
    const path = '/api/ai/chats/{chatId}/messages'
    const headersOf = (status: string) =>
      Object.keys(document.paths[path]?.post?.responses[status]?.headers ?? {})
    t.match(headersOf('201'), ['Location'])
    t.match(headersOf('429'), ['X-Request-Id', 'Retry-After'])
    const { status, headers } = await api(url, user.token)(
      'POST',
      path.replace('{chatId}', chat.id),
      { content: 'Hello' },
      { prefer: 'respond-async' },
    )
    t.equal(status, 202)
    t.ok(headersOf('202').includes('RateLimit-Remaining'))
    for (const name of headersOf('202')) t.ok(headers.get(name), name)
    const left = Number(headers.get('ratelimit-limit')) - Number(headers.get('ratelimit-remaining'))
    t.equal(left, 2, 'of the minute’s requests two are used')
    t.match(headers.get('ratelimit-reset'), /^\d{1,2}$/)
  })

  t.test('has every route of the API', async (t) => {
    const api = routes.filter(
      ({ method, path }) =>
        path.startsWith('/api/') && !path.includes('*') && documentedMethods.includes(method),
    )
    t.ok(api.length > 10)
    for (const { method, path } of api) {
      t.ok(document.paths[path]?.[method.toLowerCase()], `${method} ${path}`)
    }
  })

  t.test('is shown by a page that needs no other host', async (t) => {
    for (const path of ['/docs', '/docs/']) {
      const page = await call<string>('GET', path)
      t.equal(page.status, 200, path)
      t.notMatch(page.body, /(?:https?:)?\/\/[a-z0-9-]+\.[a-z]/i, path)
    }
    const { body: script } = await call<string>('GET', '/docs/static/swagger-initializer.js')
    t.match(script, 'validatorUrl: null')
    t.match(script, '"deepLinking":true')
    t.match(script, 'data:image/svg+xml', 'the product’s logo')
    const { body: shown } = await call<string>('GET', '/docs/')
    t.match(shown, `<title>${document.info.title}: the API</title>`)
    const { headers } = await call<string>('GET', '/docs/')
    t.match(headers.get('content-security-policy'), "default-src 'self'")
    t.notMatch(headers.get('content-security-policy'), /https?:|\*/)
  })
})
