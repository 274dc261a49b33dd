import type { TSchema } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { Id, models } from '../schemas/common.js'
import {
  ConnectionRefusal,
  clientEvents,
  Handshake,
  Refusal,
  SocketOpened,
  serverEvents,
} from '../schemas/events.js'
import { completeComponents, componentOf, referredIn } from '../src/http/components.js'
import { product, productVersion } from '../src/http/product.js'
import { socketPath } from '../src/http/upgrades.js'

type ClientEventName = keyof typeof clientEvents
type ServerEventName = keyof typeof serverEvents

const clientSummaries: Record<ClientEventName, string> = {
  'join-chat':
    'Joins the room of a chat. The answer has the replies that have not ended, and the one asked for from its offset on.',
  'leave-chat': 'Leaves the room of a chat.',
  'chat-message':
    'Sends a message and joins the room of its chat. Answered once the message and the record of its reply are stored; the same `clientMessageId` again gives the same two.',
  'stop-message': 'Stops a reply. One that has ended is answered as it is.',
  authenticate: 'Gives a newer token of the same session.',
}

const serverSummaries: Record<ServerEventName, string> = {
  message:
    'A whole record: a user’s message when it is stored, a reply when it has ended. A client that handles only this event stays right.',
  'message-start': 'The record of a reply as it waits, with its position, or begins.',
  'message-chunk': 'A piece of a reply’s text, or of its thinking, with its offset.',
  'chat-created': 'To all sockets of the user.',
  'chat-updated': 'To all sockets of the user.',
  'chat-deleted': 'To all sockets of the user.',
  'token-expiring':
    'To one socket: its token expires soon. The client sends `authenticate`, or is closed by its transport and connects again.',
  'session-ended': 'To one socket, before the server disconnects it for good.',
  'event-error': 'To one socket that sent an event without an acknowledgement: it was refused.',
}

/** Events whose payload may be the chat’s id alone. */
const bareEvents: ReadonlySet<string> = new Set<ClientEventName>(['join-chat', 'leave-chat'])

const description = `Socket.IO 4: protocol revision 5 over Engine.IO protocol 4, the default namespace, no binary
attachments. Transports \`websocket\` and \`polling\`. \`/docs/protocol\` has what schemas cannot say: the rules of
offsets and epochs, tokens and their renewal, slow clients.

Each event that a client sends is acknowledged with \`{ok: true, …}\` or \`{ok: false, error}\`. Objects that the
server sends may get more fields, and enumerations more values.`

const pascal = (event: string) =>
  event.replace(/(?:^|-)([a-z])/g, (_, letter) => letter.toUpperCase())

/** The schemas that `part` refers to, and those that they refer to. */
function referred(part: unknown): Record<string, Record<string, unknown>> {
  const schemas: Record<string, Record<string, unknown>> = {}
  const visit = (within: unknown) => {
    for (const name of referredIn(within)) {
      const model = models.get(name)
      if (!model || name in schemas) continue
      schemas[name] = componentOf(model)
      visit(schemas[name])
    }
  }
  visit(part)
  return schemas
}

/** Messages of the channel by their key: a name on the wire, and a payload. */
function messages() {
  const message = (name: string, summary: string, payload: TSchema) => ({
    name,
    summary,
    payload: componentOf(payload),
  })
  const all: Record<string, object> = {
    CONNECT: message('CONNECT', 'The first packet of a client: `auth` of its library.', Handshake),
    connect: message('CONNECT', 'The server admits the socket.', SocketOpened),
    connect_error: message(
      'CONNECT_ERROR',
      'The server refuses the socket, and closes the connection. Origins are refused before, with HTTP 403.',
      ConnectionRefusal,
    ),
    refusal: message('ACK', 'The acknowledgement of an event that was refused.', Refusal),
  }
  for (const [event, { payload, answer }] of Object.entries(clientEvents)) {
    const summary = clientSummaries[event as ClientEventName]
    all[event] = message(event, summary, payload)
    if (bareEvents.has(event)) {
      all[event] = {
        name: event,
        summary,
        payload: { anyOf: [componentOf(payload), componentOf(Id)] },
      }
    }
    all[`${event}.ack`] = message('ACK', `The acknowledgement of \`${event}\`.`, answer)
  }
  for (const [event, payload] of Object.entries(serverEvents)) {
    all[event] = message(event, serverSummaries[event as ServerEventName], payload)
  }
  return all
}

const channel = { $ref: '#/channels/socket' }
const messageOf = (key: string) => ({ $ref: `#/channels/socket/messages/${key}` })

function operations() {
  const receive = (summary: string, key: string, ...answers: string[]) => ({
    action: 'receive',
    channel,
    summary,
    messages: [messageOf(key)],
    reply: { channel, messages: answers.map(messageOf) },
  })
  const found: Record<string, object> = {
    receiveConnect: receive('Opens the socket', 'CONNECT', 'connect', 'connect_error'),
  }
  for (const event of Object.keys(clientEvents)) {
    found[`receive${pascal(event)}`] = receive(`Answers ${event}`, event, `${event}.ack`, 'refusal')
  }
  for (const event of Object.keys(serverEvents)) {
    found[`send${pascal(event)}`] = {
      action: 'send',
      channel,
      summary: `Sends ${event}`,
      messages: [messageOf(event)],
    }
  }
  return found
}

/** The host that clients reach, as far as the settings say. */
function serverOf(publicUrl: string | undefined, port: number) {
  const url = new URL(publicUrl ?? `http://localhost:${port || 3000}`)
  const protocol = url.protocol === 'https:' ? 'wss' : 'ws'
  return { host: url.host, protocol, description: 'This server.' }
}

const engineQuery = {
  type: 'object',
  required: ['EIO', 'transport'],
  properties: {
    EIO: { type: 'string', const: '4' },
    transport: { type: 'string', enum: ['websocket', 'polling'] },
    sid: { type: 'string', description: 'Of a connection that began with polling.' },
  },
}

/** Serves the description of the socket's protocol, made of the schemas that check its events. */
export default fp(
  async (fastify) => {
    const { DOCS, MAX_NUM_CTX, MAX_NUM_PREDICT, PORT, PUBLIC_URL } = fastify.config
    if (!DOCS) return
    const all = messages()
    const schemas = referred(all)
    completeComponents(schemas, { num_ctx: MAX_NUM_CTX, num_predict: MAX_NUM_PREDICT })
    const document = JSON.stringify({
      asyncapi: '3.0.0',
      info: {
        title: `${product.title}: the socket’s protocol`,
        version: await productVersion(),
        description,
        license: product.license,
      },
      defaultContentType: 'application/json',
      servers: {
        self: {
          ...serverOf(PUBLIC_URL, PORT),
          security: [{ $ref: '#/components/securitySchemes/bearer' }],
        },
      },
      channels: {
        socket: {
          address: socketPath,
          title: 'A socket',
          description: 'One connection bears one socket, in the default namespace.',
          messages: all,
          bindings: { ws: { method: 'GET', query: engineQuery } },
        },
      },
      operations: operations(),
      components: {
        schemas,
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            bearerFormat: 'JWT',
            description: 'An access token: as `auth.token` of the socket, or in this header.',
          },
        },
      },
    })
    fastify.get('/asyncapi.json', { schema: { hide: true } }, (_request, reply) => {
      reply.type('application/json; charset=utf-8').send(document)
    })
  },
  { name: 'asyncapi', dependencies: ['observability', 'security', 'validation'] },
)
