import { runInNewContext } from 'node:vm'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import type { tryOut } from '../src/http/try-out.js'
import { api, embedded, startApp } from './services/app.js'
import { patienceMs } from './services/eventually.js'

interface Media {
  schema: { $ref?: string }
  example?: unknown
  examples?: Record<string, { $ref: string }>
}

interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  required: boolean
  example?: unknown
  schema: { default?: unknown; examples?: unknown[] }
}

interface Operation {
  operationId: string
  tags: string[]
  parameters?: Parameter[]
  requestBody?: { content: Record<string, Media> }
  responses: Record<string, { content?: Record<string, Media> }>
}

interface Model {
  type?: string | string[]
  examples?: unknown[]
  properties?: Record<string, object>
}

interface Document {
  tags: { name: string }[]
  paths: Record<string, Record<string, Operation>>
  components: {
    schemas: Record<string, Model>
    examples: Record<string, { value: { code: string; statusCode: number } }>
  }
}

interface Step {
  method: string
  path: string
  operation: Operation
}

/** The operations from the top of the page to its bottom. */
function stepsOf({ tags, paths }: Document): Step[] {
  const steps = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ method, path, operation })),
  )
  return tags.flatMap(({ name }) => steps.filter(({ operation }) => operation.tags[0] === name))
}

/** What the page sends when nothing is edited: it fills in examples and defaults of parameters. */
function requestOf(document: Document, url: string, { method, path, operation }: Step) {
  const target = new URL(url)
  target.pathname = path
  const headers: Record<string, string> = {}
  for (const parameter of operation.parameters ?? []) {
    const value = parameter.example ?? parameter.schema.default
    if (value === undefined) continue
    if (parameter.in === 'path') {
      target.pathname = decodeURI(target.pathname).replace(`{${parameter.name}}`, String(value))
    } else if (parameter.in === 'query') target.searchParams.set(parameter.name, String(value))
    else headers[parameter.name] = String(value)
  }
  const media = operation.requestBody?.content['application/json']
  const body = media && JSON.stringify(modelOf(document, media).examples?.[0])
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  return { method: method.toUpperCase(), url: target.href, headers, ...(body && { body }) }
}

function modelOf(document: Document, { schema }: Media): Model {
  const model = document.components.schemas[schema.$ref?.split('/').at(-1) ?? '']
  if (!model) throw new Error(`no model ${JSON.stringify(schema)}`)
  return model
}

/** Operations after which whoever tries the page has to sign in again. */
const endsSession = ['logoutUser', 'logoutEverywhere']

t.test('the examples', async (t) => {
  const { url } = await startApp(t, embedded)
  const call = api(url)
  const { body: document } = await call<Document>('GET', '/openapi.json')
  const steps = stepsOf(document)

  t.test('work as they are, from the page’s top to its bottom', async (t) => {
    // The page's own script, run as the page runs it.
    const page = { window: {} as { tryOut: ReturnType<typeof tryOut> }, URL }
    const script = await call<string>('GET', '/docs/static/theme/try-out.js')
    runInNewContext(script.body, page)
    const initializer = await call<string>('GET', '/docs/static/swagger-initializer.js')
    t.match(initializer.body, /"requestInterceptor":.*window\.tryOut\.complete/)
    t.match(initializer.body, /"responseInterceptor":.*window\.tryOut\.learn/)

    async function send(step: Step) {
      const { url: target = '', ...request } = page.window.tryOut.complete(
        requestOf(document, url, step),
      )
      const signal = AbortSignal.timeout(patienceMs)
      const response = await fetch(target, { ...(request as RequestInit), signal })
      const text = await response.text()
      page.window.tryOut.learn({ text })
      return { status: response.status, text }
    }

    const login = steps.find(({ operation }) => operation.operationId === 'loginUser')
    t.ok(login && steps.length > 15)
    for (const step of steps) {
      const { operationId, responses } = step.operation
      const { status, text } = await send(step)
      const [success] = Object.keys(responses)
      t.equal(String(status), success, `${operationId}: ${text.slice(0, 200)}`)
      if (operationId === 'sendMessage') {
        const [example] = modelOf(document, { schema: { $ref: '/Turn' } }).examples ?? []
        const { content } = (example as { reply: { content: string } }).reply
        t.ok(JSON.parse(text).reply.content.startsWith(content), 'ELIZA says what the example has')
      }
      if (login && endsSession.includes(operationId)) t.equal((await send(login)).status, 200)
    }
  })

  t.test('are valid by their own schemas, and every object has one', async (t) => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false })
    ajv.addSchema({ $id: 'document', ...document })
    for (const [name, model] of Object.entries(document.components.schemas)) {
      if (model.properties) t.equal(model.examples?.length, 1, name)
      for (const example of model.examples ?? []) {
        const isValid = ajv.validate({ $ref: `document#/components/schemas/${name}` }, example)
        t.ok(isValid, `${name}: ${ajv.errorsText()}`)
      }
    }
    for (const [code, { value }] of Object.entries(document.components.examples)) {
      t.ok(ajv.validate({ $ref: 'document#/components/schemas/ApiError' }, value), code)
      t.equal(value.code, code)
    }
    for (const { operation } of steps) {
      for (const { name, example, required, schema } of operation.parameters ?? []) {
        const examples = example === undefined ? (schema.examples ?? [schema.default]) : [example]
        t.not(examples[0], undefined, `${operation.operationId} ${name}`)
        t.ok(ajv.validate(schema, examples[0]), `${operation.operationId} ${name}`)
        t.equal(example !== undefined, required, `only what is required is filled in: ${name}`)
      }
    }
  })

  t.test('of errors have the status of the response that they are in', async (t) => {
    for (const { operation } of steps) {
      for (const [status, { content }] of Object.entries(operation.responses)) {
        if (Number(status) < 400 || operation.tags[0] === 'health') continue
        const references = Object.entries(content?.['application/json']?.examples ?? {})
        t.ok(references.length > 0, `${operation.operationId} ${status}`)
        for (const [code] of references) {
          const value = document.components.examples[code]?.value
          t.equal(value?.statusCode, Number(status), `${operation.operationId} ${status} ${code}`)
        }
      }
    }
  })
})
