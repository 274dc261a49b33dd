import { Parser } from '@asyncapi/parser'
import { Ajv, type ValidateFunction } from 'ajv'
import { io, type Socket } from 'socket.io-client'
import t from 'tap'
import type { SignedIn } from '../schemas/auth.js'
import type { MessageChunk, MessageStart, Turn } from '../schemas/messages.js'
import { errorTable } from '../src/errors.js'
import { api, register, startApp } from './services/app.js'
import { ask, hear } from './services/client.js'
import { startConversation } from './services/conversation.js'

interface Reference {
  $ref: string
}

interface Operation {
  action: 'send' | 'receive'
  messages: Reference[]
  reply?: { messages: Reference[] }
}

interface Document {
  asyncapi: string
  info: { version: string }
  servers: { self: { host: string; protocol: string } }
  channels: {
    socket: { address: string; messages: Record<string, { name: string; payload: object }> }
  }
  operations: Record<string, Operation>
  components: { schemas: Record<string, object> }
}

/** A packet of Socket.IO, as its text names it. */
interface Packet {
  from: 'client' | 'server'
  kind: 'CONNECT' | 'DISCONNECT' | 'EVENT' | 'ACK' | 'CONNECT_ERROR'
  id: string | undefined
  data: unknown
}

const kinds = ['CONNECT', 'DISCONNECT', 'EVENT', 'ACK', 'CONNECT_ERROR'] as const

function packetOf(from: Packet['from'], text: string): Packet {
  const [, kind = '', id, data = ''] = /^(\d)(\d*)(.*)$/s.exec(text) ?? []
  const name = kinds[Number(kind)]
  if (!name) throw new Error(`unknown packet ${text}`)
  return { from, kind: name, id: id || undefined, data: data && JSON.parse(data) }
}

/** A socket.io client of which every packet is noted, both ways. */
function connectNoted(t: Teardown, url: string, token: string, packets: Packet[]): Socket {
  const options = { auth: { token }, forceNew: true, reconnection: false, autoConnect: false }
  const socket = io(url, options)
  t.teardown(() => socket.disconnect())
  socket.io.on('open', () => {
    const note = (from: Packet['from']) => (packet: { type: string; data?: unknown }) => {
      if (packet.type === 'message') packets.push(packetOf(from, String(packet.data)))
    }
    socket.io.engine.on('packet', note('server'))
    socket.io.engine.on('packetCreate', note('client'))
  })
  // Only now, so that its first packet is noted too.
  return socket.connect()
}

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** Refuses what a schema does not name: a document that leaves a field out is wrong. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed)
  if (typeof schema !== 'object' || schema === null) return schema
  const parts = Object.fromEntries(Object.entries(schema).map(([key, part]) => [key, closed(part)]))
  return 'properties' in parts ? { ...parts, additionalProperties: false } : parts
}

/** Holds packets against a document. */
function createCheck(document: Document) {
  const { channels, operations } = document
  const ajv = new Ajv({ strict: false, formats: { 'date-time': isTimestamp } })
  ajv.addSchema({ $id: 'document', ...(closed(document) as object) })
  const validators = new Map<string, ValidateFunction>()
  const validatorOf = (key: string) => {
    const known = validators.get(key)
    if (known) return known
    const pointer = `document#/channels/socket/messages/${key}/payload`
    const made = ajv.compile({ $ref: pointer })
    validators.set(key, made)
    return made
  }
  const keyOf = ({ $ref }: Reference) => $ref.slice($ref.lastIndexOf('/') + 1)
  const operationOf = (action: Operation['action'], name: string) =>
    Object.values(operations).find(
      (operation) =>
        operation.action === action &&
        operation.messages.some(
          (message) => channels.socket.messages[keyOf(message)]?.name === name,
        ),
    )
  /** The messages of the document that were seen. */
  const seen = new Set<string>()
  const asked = new Map<string, Operation>()

  /** @returns what is wrong with a packet, or nothing. */
  function fault(packet: Packet): string | undefined {
    const { from, kind, id, data } = packet
    const told = `${kind} of the ${from}: ${JSON.stringify(data)}`
    const matching = (references: Reference[], value: unknown) => {
      const key = references.map(keyOf).find((one) => validatorOf(one)(value))
      if (key === undefined) return `not as documented: ${told}`
      seen.add(key)
      return undefined
    }
    // It has no payload.
    if (kind === 'DISCONNECT') return undefined
    if (kind === 'CONNECT' || kind === 'CONNECT_ERROR') {
      const operation = operationOf('receive', 'CONNECT')
      const references = from === 'client' ? operation?.messages : operation?.reply?.messages
      return matching(references ?? [], data)
    }
    if (kind === 'ACK') {
      const operation = asked.get(id ?? '')
      if (!Array.isArray(data) || data.length !== 1) return `not one answer: ${told}`
      return matching(operation?.reply?.messages ?? [], data[0])
    }
    const [name, payload, ...more] = data as [string, ...unknown[]]
    const operation = operationOf(from === 'client' ? 'receive' : 'send', name)
    if (!operation || more.length > 0) return `not in the document: ${told}`
    if (id !== undefined) asked.set(id, operation)
    return matching(operation.messages, payload)
  }
  return { fault, seen }
}

const isTimestamp = (text: string) => new Date(text).toISOString() === text

t.test('the document has every code of an error, and the bounds that settings hold', async (t) => {
  const { url } = await startApp(t, { MAX_NUM_CTX: '5000', MAX_NUM_PREDICT: '4000' })
  const { body } = await api(url)<Document>('GET', '/asyncapi.json')
  const { ErrorCode, GenerationOptions } = body.components.schemas
  t.same(
    (ErrorCode as { 'x-extensible-enum'?: string[] })['x-extensible-enum'],
    errorTable.map(({ code }) => code),
  )
  t.match(GenerationOptions, {
    properties: { num_ctx: { maximum: 5000 }, num_predict: { maximum: 4000 } },
  })
})

t.test('the AsyncAPI document is valid, and has every event of the socket', async (t) => {
  const { app, url } = await startApp(t, { PUBLIC_URL: 'https://chat.example' })
  const { status, headers, body } = await api(url)<Document>('GET', '/asyncapi.json')
  t.equal(status, 200)
  t.equal(headers.get('content-type'), 'application/json; charset=utf-8')
  const diagnostics = await new Parser().validate(JSON.stringify(body))
  t.strictSame(
    diagnostics
      .filter(({ severity }) => severity < 2)
      .map(({ message, path }) => ({ message, path })),
    [],
  )
  t.equal(body.asyncapi, '3.0.0')
  t.match(body.servers.self, { host: 'chat.example', protocol: 'wss' })
  t.notMatch(JSON.stringify(body), /\$id|"[A-Za-z]+#"/)
  const names = Object.keys(body.channels.socket.messages)
  for (const name of app.clientEvents.keys()) t.ok(names.includes(name), name)
})

t.test('DOCS=false takes it away', async (t) => {
  const { url } = await startApp(t, { DOCS: 'false' })
  t.match(await api(url)('GET', '/asyncapi.json'), { status: 404, body: { code: 'NOT_FOUND' } })
})

/** Everything that a client can do and hear, in one conversation. */
async function converseOverSocket(t: Teardown, packets: Packet[]): Promise<void> {
  const { url, user, call, newChat } = await startConversation(t, { OLLAMA_MAX_CONCURRENT: '1' })
  const refused = connectNoted(t, url, 'no token', packets)
  await hear(refused, 'connect_error')
  const socket = connectNoted(t, url, `Bearer ${user.token}`, packets)
  await hear(socket, 'connect')

  const created = hear(socket, 'chat-created')
  const chatId = await newChat()
  await created
  await ask(socket, 'join-chat', { chatId })
  const thinking = new Promise<void>((resolve) => {
    socket.on('message-chunk', (chunk: MessageChunk) => chunk.thinking && resolve())
  })
  const clientMessageId = 'one'
  const running: Turn = await ask(socket, 'chat-message', {
    chatId,
    content: 'think=20 len=100000 rate=100',
    clientMessageId,
    options: { temperature: 0.5, num_predict: 5000 },
  })
  await thinking
  const [chunk] = (await hear(socket, 'message-chunk')) as [MessageChunk]

  const waits = hear(socket, 'message-start')
  const queued: Turn = await ask(socket, 'chat-message', { chatId: await newChat(), content: 'Hi' })
  const [start] = (await waits) as [MessageStart]
  if (start.id !== queued.reply.id || start.position !== 1) throw new Error('it does not wait')

  const { epoch } = chunk
  await ask(socket, 'join-chat', { chatId, messageId: running.reply.id, epoch, offset: 0 })
  const ended = hear(socket, 'message')
  await ask(socket, 'stop-message', { chatId, messageId: running.reply.id })
  await ended
  await ask(socket, 'join-chat', chatId)
  await ask(socket, 'join-chat', { chatId: 'f'.repeat(24) })
  const faulty = hear(socket, 'event-error')
  socket.emit('leave-chat', { chatId: 'f'.repeat(24) })
  await faulty
  await ask(socket, 'leave-chat', { chatId })
  await ask(socket, 'leave-chat', chatId)
  await ask(socket, 'authenticate', { token: user.token })

  const updated = hear(socket, 'chat-updated')
  await call('PATCH', `/api/ai/chats/${chatId}`, { title: 'Named', system: 'Be brief.' })
  await updated
  const deleted = hear(socket, 'chat-deleted')
  await call('DELETE', `/api/ai/chats/${chatId}`)
  await deleted
  const over = hear(socket, 'disconnect')
  await call('POST', '/api/auth/logout')
  await over
}

/** A token that expires, and its renewal. */
async function renewToken(t: Teardown, packets: Packet[]): Promise<void> {
  const { url } = await startApp(t, { JWT_EXPIRES_IN: '4s' })
  const { token, refreshToken } = await register(url)
  const socket = connectNoted(t, url, token, packets)
  await hear(socket, 'token-expiring')
  const { body } = await api(url)<SignedIn>('POST', '/api/auth/refresh', { refreshToken })
  await ask(socket, 'authenticate', { token: body.token })
}

t.test(
  'every packet of a socket is as the document says, and all of the document is seen',
  async (t) => {
    const { url } = await startApp(t)
    const { body: document } = await api(url)<Document>('GET', '/asyncapi.json')
    const packets: Packet[] = []
    await converseOverSocket(t, packets)
    await renewToken(t, packets)
    const { fault, seen } = createCheck(document)
    for (const packet of packets)
      t.equal(fault(packet), undefined, `a packet of the ${packet.from}`)
    t.strictSame(
      Object.keys(document.channels.socket.messages).filter((key) => !seen.has(key)),
      [],
      'every message of the document was seen',
    )
  },
)
