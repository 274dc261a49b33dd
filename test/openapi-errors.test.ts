import t, { type Test } from 'tap'
import type { ApiError } from '../schemas/common.js'
import { AppError, errorTable } from '../src/errors.js'
import { newId } from '../src/ids.js'
import { type Answer, api, embedded, register, startApp, testPassword } from './services/app.js'
import { never, startStandIn } from './services/ollama-stand-in.js'

/* Every status of an error that the document lists for an operation is made to happen. */

interface Operation {
  operationId: string
  security?: unknown[]
  responses: Record<
    string,
    { headers?: Record<string, object>; content?: Record<string, { examples?: object }> }
  >
}
interface Document {
  paths: Record<string, Record<string, Operation>>
}
interface Step {
  method: string
  path: string
  operation: Operation
}

/** Bodies with which an operation would succeed. */
const bodies: Record<string, (user: { username: string; refreshToken: string }) => object> = {
  registerUser: () => {
    const username = `new-${newId()}`
    return { username, email: `${username}@example.org`, password: testPassword }
  },
  loginUser: ({ username }) => ({ username, password: testPassword }),
  refreshSession: ({ refreshToken }) => ({ refreshToken }),
  deleteAccount: () => ({ password: testPassword }),
  createChat: () => ({}),
  updateChat: () => ({ title: 'New' }),
  sendMessage: () => ({ content: 'Hello' }),
}

/** What may be tried on any operation to see that it is not answered so. */
const harmless = ['401', '403']

async function start(t: Test, settings: Record<string, string> = {}) {
  const { app, url } = await startApp(t, { ...embedded, ...settings })
  const user = await register(url)
  const call = api(url, user.token)
  const { body: chat } = await call<{ id: string }>('POST', '/api/ai/chats')
  return { app, url, user, chatId: chat.id }
}

type Place = Awaited<ReturnType<typeof start>>

/** Sends an operation's request as it would succeed, but for what is changed of it. */
function send(
  { url, user, chatId }: Place,
  { method, path, operation }: Step,
  change: {
    token?: string
    body?: object
    headers?: Record<string, string>
    query?: string
    ids?: string
  } = {},
): Promise<Answer<ApiError>> {
  const { username } = user.user
  const body = change.body ?? bodies[operation.operationId]?.({ ...user, username })
  const target = path
    .replace('{chatId}', change.ids ?? chatId)
    .replace('{messageId}', change.ids ?? newId())
  return api(url, change.token ?? user.token)<ApiError>(
    method.toUpperCase(),
    target + (change.query ?? ''),
    body,
    change.headers,
  )
}

t.test('each documented error happens as it is documented', async (t) => {
  const usual = await start(t)
  const { body: document } = await api(usual.url)<Document>('GET', '/openapi.json')
  const steps: Step[] = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ method, path, operation })),
  )

  /** What makes an operation answer with a status. */
  const causes: Record<string, (step: Step) => Promise<Answer<ApiError>>> = {
    400: (step) => send(usual, step, { query: '?surplus=1' }),
    401: (step) => {
      const { operationId } = step.operation
      if (operationId === 'loginUser') {
        return send(usual, step, { body: { username: 'nobody', password: testPassword } })
      }
      if (operationId === 'refreshSession') {
        return send(usual, step, { body: { refreshToken: 'not.one' } })
      }
      return send(usual, step, { token: 'not-one' })
    },
    403: (step) => send(usual, step, { headers: { origin: 'https://elsewhere.example' } }),
    404: (step) =>
      step.operation.operationId === 'createChat'
        ? send(usual, step, { body: { model: 'no-such-model' } })
        : send(usual, step, { ids: newId() }),
    409: async (step) => {
      if (step.operation.operationId === 'registerUser') {
        const { username, email } = usual.user.user
        return send(usual, step, { body: { username, email, password: testPassword } })
      }
      const headers = { 'idempotency-key': 'one' }
      await send(usual, step, { headers })
      return send(usual, step, { headers, body: { content: 'Another' } })
    },
    413: (step) => send(usual, step, { body: { content: 'x'.repeat(1024 * 1024) } }),
    415: (step) => send(usual, step, { body: {}, headers: { 'content-type': 'text/plain' } }),
    429: async (step) => {
      const busy = await start(t, {
        RATE_LIMIT_CREDENTIALS_PER_MINUTE: '1',
        RATE_LIMIT_USER_REQUESTS_PER_MINUTE: '1',
      })
      return send(busy, step)
    },
    500: async (step) => {
      const { app, ...place } = await start(t)
      failing(app.store, () => new TypeError('a bug'))
      failing(app.ollama.catalogue, () => new TypeError('a bug'))
      return send({ app, ...place }, step)
    },
    // Nothing listens on port 1.
    502: async (step) => send(await start(t, { OLLAMA_API_URL: 'http://127.0.0.1:1' }), step),
    503: async (step) => {
      const { app, user, ...place } = await start(t)
      // A session that no request has used is in no cache.
      const { username } = user.user
      const login = { username, password: testPassword }
      const { body } = await api(place.url)<{ token: string }>('POST', '/api/auth/login', login)
      failing(app.store, () => new AppError('STORE_UNAVAILABLE'))
      return send({ app, user, ...place }, step, { token: body.token })
    },
    504: async (step) => {
      const standIn = await startStandIn({
        routes: { '/api/tags': () => {} },
        script: () => [{ wait: never }],
      })
      t.teardown(() => standIn.close())
      return send(
        await start(t, { OLLAMA_API_URL: standIn.url, OLLAMA_FIRST_TOKEN_TIMEOUT_MS: '1000' }),
        step,
      )
    },
  }

  t.ok(steps.length > 15)
  for (const step of steps) {
    const { operationId, responses, security } = step.operation
    const documented = Object.keys(responses).filter((status) => status >= '400')
    for (const [status, cause] of Object.entries(causes)) {
      const isServices = operationId === 'getReadiness' && status === '503'
      const isSent = documented.includes(status) || harmless.includes(status)
      if (isServices || !isSent) continue
      const { status: actual, body, headers } = await cause(step)
      const name = `${operationId} ${status}`
      if (!documented.includes(status)) {
        t.not(String(actual), status, `${name} is not documented`)
        continue
      }
      t.equal(String(actual), status, `${name}: ${JSON.stringify(body)}`)
      const listed = errorTable.find(({ code }) => code === body.code)
      const { content, headers: named } = responses[status] ?? {}
      t.ok(
        Object.hasOwn(Object(content?.['application/json']?.examples), body.code),
        `${name}: ${body.code}`,
      )
      t.match(body, { statusCode: actual, retryable: listed?.retryable, requestId: String })
      for (const header of Object.keys(named ?? {})) t.ok(headers.get(header), `${name} ${header}`)
    }
    if (security === undefined) t.ok(documented.includes('401'), operationId)
  }
})

/** Lets every function of an object fail. */
function failing(target: object, fault: () => Error): void {
  for (const name in target) {
    if (typeof Reflect.get(target, name) === 'function') {
      Reflect.set(target, name, async () => {
        throw fault()
      })
    }
  }
}
