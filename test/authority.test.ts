import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { io } from 'socket.io-client'
import t from 'tap'
import { newId } from '../src/ids.js'
import { register, startApp } from './services/app.js'

/*
 * Every route and every event × no token, a malformed, an expired and a revoked one, and another
 * user's. The rows come from the tables of the app itself; a new route or event with a body must be
 * given a sample below, or the test fails.
 */

const bodies: Record<string, object> = {
  createChat: {},
  updateChat: { title: 'Mine now' },
  sendMessage: { content: 'hello' },
}

const payloads: Record<string, (chatId: string, messageId: string) => object> = {
  'join-chat': (chatId) => ({ chatId }),
  'leave-chat': (chatId) => ({ chatId }),
  'chat-message': (chatId) => ({ chatId, content: 'hello' }),
  'stop-message': (chatId, messageId) => ({ chatId, messageId }),
}

interface RouteRow {
  method: string
  url: string
  operationId: string
  hasBody: boolean
}

/** The same token, expired long ago and signed again. */
function expire(token: string, secret: string): string {
  const [head, body = ''] = token.split('.')
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString())
  const old = Buffer.from(JSON.stringify({ ...claims, iat: 1, exp: 1000 })).toString('base64url')
  const signature = createHmac('sha256', secret).update(`${head}.${old}`).digest('base64url')
  return `${head}.${old}.${signature}`
}

t.test('authority', async (t) => {
  const routes: RouteRow[] = []
  const { app, url } = await startApp(t, {}, (app) => {
    app.addHook('onRoute', ({ method, url, schema }) => {
      if (!url.startsWith('/api/') || schema?.security?.length === 0) return
      for (const one of [method].flat()) {
        const operationId = schema?.operationId ?? ''
        routes.push({ method: one, url, operationId, hasBody: schema?.body !== undefined })
      }
    })
  })
  const owner = await register(url)
  const other = await register(url)
  const revoked = await register(url)
  await fetch(`${url}/api/auth/logout`, { method: 'POST', headers: revoked.headers })

  const post = (path: string, body: object) =>
    fetch(`${url}${path}`, {
      method: 'POST',
      headers: { ...owner.headers, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    }).then((response) => response.json())
  const chat = await post('/api/ai/chats', {})
  const turn = await post(`/api/ai/chats/${chat.id}/messages`, { content: 'hello' })

  const badTokens: Record<string, string | undefined> = {
    'no token': undefined,
    'a malformed one': 'not.a.token',
    'an expired one': expire(owner.token, app.jwtSecret),
    'a revoked one': revoked.token,
  }

  t.ok(routes.length >= 10, `${routes.length} routes in the table`)

  for (const route of routes) {
    const call = (token: string | undefined, chatId: string, messageId: string) =>
      fetch(url + route.url.replace(':chatId', chatId).replace(':messageId', messageId), {
        method: route.method,
        headers: {
          ...(token && { authorization: `Bearer ${token}` }),
          ...(route.hasBody && { 'content-type': 'application/json' }),
        },
        ...(route.hasBody && { body: JSON.stringify(bodies[route.operationId]) }),
      })
    t.test(`${route.method} ${route.url}`, async (t) => {
      if (route.hasBody) t.ok(bodies[route.operationId], `${route.operationId} has a sample body`)
      for (const [name, token] of Object.entries(badTokens)) {
        const response = await call(token, chat.id, turn.reply.id)
        t.equal(response.status, 401, name)
        t.match(await response.json(), { statusCode: 401, code: /^(UNAUTHORIZED|TOKEN_EXPIRED)$/ })
      }
      if (!route.url.includes(':chatId')) return
      const foreign = await call(other.token, chat.id, turn.reply.id)
      const missing = await call(other.token, newId(), newId())
      t.equal(foreign.status, 404, 'another’s is not there')
      const { requestId: _f, ...foreignBody } = await foreign.json()
      const { requestId: _m, ...missingBody } = await missing.json()
      t.same(foreignBody, missingBody, 'exactly as what does not exist')
    })
  }

  const after = await fetch(`${url}/api/ai/chats/${chat.id}`, { headers: owner.headers })
  t.match(await after.json(), { title: 'hello', messages: [{ seq: 1 }, { seq: 2 }] }, 'untouched')

  t.test('sockets', async (t) => {
    const connect = (auth: object) => {
      const socket = io(url, { auth, transports: ['websocket'], reconnection: false, forceNew: true })
      t.teardown(() => socket.disconnect())
      return socket
    }
    for (const [name, token] of Object.entries(badTokens)) {
      const [error] = await once(connect({ token }), 'connect_error')
      t.match(error.data, { code: /^(UNAUTHORIZED|TOKEN_EXPIRED)$/ }, name)
    }
    t.ok(app.clientEvents.size >= 4, `${app.clientEvents.size} events in the table`)
    const socket = connect({ token: other.token })
    await once(socket, 'connect')
    for (const name of app.clientEvents.keys()) {
      const payload = payloads[name]
      if (!payload) {
        t.fail(`${name} has no sample payload`)
        continue
      }
      const ask = (chatId: string, messageId: string) =>
        socket.timeout(5000).emitWithAck(name, payload(chatId, messageId))
      const foreign = await ask(chat.id, turn.reply.id)
      t.match(foreign, { ok: false, error: { code: /_NOT_FOUND$/, retryable: false } }, name)
      t.same(foreign, await ask(newId(), newId()), 'exactly as what does not exist')
    }
    t.match(
      await socket.timeout(5000).emitWithAck('join-chat', { chatId: chat.id, messageId: turn.reply.id }),
      { ok: false, error: { code: 'CHAT_NOT_FOUND' } },
    )
  })
})
