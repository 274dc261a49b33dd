import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server } from 'socket.io'
import { io } from 'socket.io-client'
import t from 'tap'
import { ChatError } from '../../../web/client/chat-error.js'
import { followReply } from '../../../web/client/follow.js'
import { ReplyText } from '../../../web/client/reply-text.js'
import { ChatStream } from '../../../web/client/stream.js'
import { eventually, patienceMs } from '../../services/eventually.js'
import { payloadFaults, type StepOf, type Vector, vectorFiles } from './vectors.js'

interface Tap {
  strictSame(found: unknown, wanted: unknown, ...message: [string]): unknown
  teardown(end: () => unknown): unknown
}

/** What a client has sent and no step has taken; `next` waits for it. */
function inbox<T>(what: string) {
  const items: T[] = []
  const next = async (): Promise<T> => {
    await eventually(what, () => items.length > 0)
    return items.shift() as T
  }
  return { items, next }
}

/** What a step expects, and the same fields of what the client shows. */
function compared(step: StepOf<'expect'>, shown: ReplyText | undefined) {
  const { text, thinking, status, position = null } = shown ?? new ReplyText(step.messageId)
  const { step: _, messageId: __, ...wanted } = step
  const found = { text, thinking, status, ...('position' in wanted && { position }) }
  return { found, wanted }
}

/** Plays a vector to the reference client over a real socket. */
async function playSocket(t: Tap, { chatId, steps }: Vector): Promise<void> {
  const http = createServer()
  const server = new Server(http, { transports: ['websocket'] })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const joins = inbox<{ payload: unknown; acknowledge: (answer: unknown) => void }>('join-chat')
  server.on('connection', (socket) => {
    socket.on('join-chat', (payload, acknowledge) => joins.items.push({ payload, acknowledge }))
  })
  const client = io(`http://127.0.0.1:${(http.address() as AddressInfo).port}`, {
    transports: ['websocket'],
    reconnection: false,
    autoConnect: false,
  })
  t.teardown(async () => {
    client.close()
    await server.close()
  })
  // Later, since what an acknowledgement leads to is done in microtasks.
  client.on('told', (acknowledge: () => void) => setImmediate(acknowledge))
  const refusals: string[] = []
  const stream = new ChatStream(client, chatId, {
    onChange: () => {},
    onError: ({ code }) => refusals.push(code),
  })
  t.teardown(() => stream.close())
  /** Resolves when the client has handled all that was sent to it. */
  const settled = () => server.timeout(patienceMs).emitWithAck('told')

  let asked: (answer: unknown) => void = () => {}
  for (const [index, step] of steps.entries()) {
    const at = `step ${index}, ${step.step}`
    if (step.step === 'connect') {
      client.connect()
      await once(server, 'connection')
    } else if (step.step === 'disconnect') {
      for (const socket of server.sockets.sockets.values()) socket.conn.close()
      await eventually('the client is disconnected', () => !client.connected)
    } else if (step.step === 'join') {
      const { payload, acknowledge } = await joins.next()
      t.strictSame(payload, step.payload, at)
      asked = acknowledge
    } else if (step.step === 'ack') {
      asked(step.answer)
    } else if (step.step === 'event') {
      server.emit(step.event, step.payload)
    } else if (step.step === 'expect') {
      await settled()
      const { found, wanted } = compared(step, stream.reply(step.messageId))
      t.strictSame(found, wanted, at)
    } else if (step.step === 'refused') {
      await settled()
      t.strictSame(refusals.splice(0), [step.code], at)
    } else throw new Error(`${at} is not a socket’s`)
  }
  if (client.connected) await settled()
  t.strictSame(
    joins.items.map(({ payload }) => payload),
    [],
    'no other join',
  )
  t.strictSame(refusals, [], 'no other refusal')
}

/** Plays a vector to the reference client as server-sent events. */
async function playStream(t: Tap, { messageId, steps }: Vector): Promise<void> {
  const requests = inbox<{ request: IncomingMessage; response: ServerResponse }>('a request')
  const http = createServer((request, response) => requests.items.push({ request, response }))
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const left = new AbortController()
  t.teardown(() => {
    left.abort()
    http.closeAllConnections()
    http.close()
  })
  const reply = new ReplyText(messageId)
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/stream`
  let sent = 0
  let handled = 0
  const count = () => {
    handled += 1
  }
  let refusal: string | undefined
  followReply(fetch, url, 'token', reply, left.signal, count).catch((error: unknown) => {
    if (!(error instanceof ChatError) || error.retryable) return
    refusal = error.code === 'BAD_RESPONSE' ? `${error.status}` : error.code
  })
  /** Resolves when the client has handled all that was sent to it. */
  const settled = () => eventually('the client has handled what was sent', () => handled === sent)

  let response: ServerResponse | undefined
  for (const [index, step] of steps.entries()) {
    const at = `step ${index}, ${step.step}`
    if (step.step === 'request') {
      const next = await requests.next()
      t.strictSame(next.request.headers['last-event-id'] ?? null, step.lastEventId, at)
      response = next.response
    } else if (step.step === 'response') {
      response?.writeHead(step.status, { 'content-type': 'text/event-stream' })
      if (step.status === 200) response?.flushHeaders()
      else response?.end()
    } else if (step.step === 'event') {
      const id = step.id === undefined ? '' : `id: ${step.id}\n`
      response?.write(`event: ${step.event}\n${id}data: ${JSON.stringify(step.payload)}\n\n`)
      if (step.event !== 'error') sent += 1
    } else if (step.step === 'disconnect') {
      await settled()
      response?.destroy()
    } else if (step.step === 'expect') {
      await settled()
      const { found, wanted } = compared(step, reply)
      t.strictSame(found, wanted, at)
    } else if (step.step === 'refused') {
      await eventually(at, () => refusal === step.code)
    } else throw new Error(`${at} is not a stream’s`)
  }
  t.strictSame(requests.items, [], 'no other request')
}

for (const { name, vectors } of vectorFiles) {
  for (const vector of vectors) {
    t.test(`${name}: ${vector.name}`, async (t) => {
      for (const step of vector.steps) {
        if (step.step === 'event') t.equal(payloadFaults(step), '', `a ${step.event}`)
      }
      await (vector.transport === 'socket' ? playSocket : playStream)(t, vector)
    })
  }
}
