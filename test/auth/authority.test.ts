import { createHmac } from 'node:crypto'
import { io } from 'socket.io-client'
import t from 'tap'
import type { Chat, ChatWithMessages } from '../../schemas/chats.js'
import type { ApiError } from '../../schemas/common.js'
import type { Turn } from '../../schemas/messages.js'
import { newId } from '../../src/ids.js'
import { api, register, startApp } from '../services/app.js'
import { hear } from '../services/client.js'

/*
 * Every route and every event × no token, a malformed, an expired and a revoked one, and another
 * user's. The rows come from the tables of the app itself; a new route or event with a body must be
 * given a sample below, or the test fails.
 */

const bodies: Record<string, object> = {
  createChat: {},
  updateChat: { title: 'Mine now' },
  sendMessage: { content: 'hello' },
  deleteAccount: { password: 'not the password' },
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

  const ask = api(url, owner.token)
  const { body: chat } = await ask<Chat>('POST', '/api/ai/chats', {})
  const messages = `/api/ai/chats/${chat.id}/messages`
  const { body: turn } = await ask<Turn>('POST', messages, { content: 'hello' })

  const badTokens: Record<string, string | undefined> = {
    'no token': undefined,
    'a malformed one': 'not.a.token',
    'an expired one': expire(owner.token, app.jwtSecret),
    'a revoked one': revoked.token,
  }

  t.ok(routes.length >= 10, `${routes.length} routes in the table`)

  for (const route of routes) {
    const call = (token: string | undefined, chatId: string, messageId: string) =>
      api(url, token)<ApiError>(
        route.method,
        route.url.replace(':chatId', chatId).replace(':messageId', messageId),
        route.hasBody ? bodies[route.operationId] : undefined,
      )
    t.test(`${route.method} ${route.url}`, async (t) => {
      if (route.hasBody) t.ok(bodies[route.operationId], `${route.operationId} has a sample body`)
      for (const [name, token] of Object.entries(badTokens)) {
        const response = await call(token, chat.id, turn.reply.id)
        t.equal(response.status, 401, name)
        // An answer to HEAD has no body.
        if (route.method === 'HEAD') continue
        t.match(response.body, { statusCode: 401, code: /^(UNAUTHORIZED|TOKEN_EXPIRED)$/ })
      }
      if (!route.url.includes(':chatId')) return
      const foreign = await call(other.token, chat.id, turn.reply.id)
      const missing = await call(other.token, newId(), newId())
      t.equal(foreign.status, 404, 'another’s is not there')
      t.same(
        { ...foreign.body, requestId: '' },
        { ...missing.body, requestId: '' },
        'exactly as what does not exist',
      )
    })
  }

  const after = await ask<ChatWithMessages>('GET', `/api/ai/chats/${chat.id}`)
  t.match(after.body, { title: 'hello', messages: [{ seq: 1 }, { seq: 2 }] }, 'untouched')

  t.test('sockets', async (t) => {
    const connect = (auth: object) => {
      const socket = io(url, {
        auth,
        transports: ['websocket'],
        reconnection: false,
        forceNew: true,
      })
      t.teardown(() => socket.disconnect())
      return socket
    }
    for (const [name, token] of Object.entries(badTokens)) {
      const [error] = await hear(connect({ token }), 'connect_error')
      t.match(error, { data: { code: /^(UNAUTHORIZED|TOKEN_EXPIRED)$/ } }, name)
    }
    t.ok(app.clientEvents.size >= 4, `${app.clientEvents.size} events in the table`)
    const socket = connect({ token: other.token })
    await hear(socket, 'connect')
    for (const name of app.clientEvents.keys()) {
      // It speaks of no chat; of another session it is refused in socket-sessions.test.ts.
      if (name === 'authenticate') continue
      const payload = payloads[name]
      if (!payload) {
        t.fail(`${name} has no sample payload`)
        continue
      }
      const tell = (chatId: string, messageId: string) =>
        socket.timeout(5000).emitWithAck(name, payload(chatId, messageId))
      const foreign = await tell(chat.id, turn.reply.id)
      t.match(foreign, { ok: false, error: { code: /_NOT_FOUND$/, retryable: false } }, name)
      t.same(foreign, await tell(newId(), newId()), 'exactly as what does not exist')
    }
    t.match(
      await socket
        .timeout(5000)
        .emitWithAck('join-chat', { chatId: chat.id, messageId: turn.reply.id }),
      { ok: false, error: { code: 'CHAT_NOT_FOUND' } },
    )
  })
})
