import type { Static, TSchema } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import fastifySocketIo from 'fastify-socket.io'
import { models } from '../schemas/common.js'
import { AppError } from '../src/errors.js'
import { socketPath } from '../src/http/upgrades.js'
import type { ChatServer, ChatSocket, EngineConnection } from '../src/sockets/chat-socket.js'
import { closeTransport, OpenConnections } from '../src/sockets/open-connections.js'
import { SocketRooms } from '../src/sockets/socket-rooms.js'
import { SocketSessions } from '../src/sockets/socket-sessions.js'

/** A handler's answer; a function is called in the turn of the loop in which it is sent. */
type Answer = object | (() => object)

/** A client's event: its payload's schema and its handler. */
export interface ClientEvent<S extends TSchema> {
  name: string
  payload: S
  /** The field that is meant when the payload is a bare string. */
  bareField?: keyof Static<S> & string
  handle: (payload: Static<S>, socket: ChatSocket) => Promise<Answer>
}

declare module 'fastify' {
  interface FastifyInstance {
    io: ChatServer
    socketRooms: SocketRooms
    socketSessions: SocketSessions
    /** Every client event that is served, with its payload's schema. */
    clientEvents: ReadonlyMap<string, ClientEvent<TSchema>>
    onClientEvent<S extends TSchema>(event: ClientEvent<S>): void
  }
}

/** A socket that sends this many times its limit in a second is disconnected. */
const abuseFactor = 5
/** How long closing waits for sockets to have read what was sent to them, in milliseconds. */
const closeGraceMs = 1000

type Acknowledge = (answer: object) => void

/** Socket.io: who may connect, and how events are checked, run and acknowledged. */
export default fp(
  async (fastify) => {
    const { config, sessions, userLimits, log } = fastify
    const events = new Map<string, ClientEvent<TSchema>>()
    const connections = new OpenConnections()

    await fastify.register(fastifySocketIo.default, {
      path: socketPath,
      serveClient: false,
      // A recovered connection would skip the authentication below.
      connectionStateRecovery: undefined,
      perMessageDeflate: false,
      maxHttpBufferSize: 1_000_000,
      connectTimeout: 10_000,
      cors: { origin: [...fastify.knownOrigins], credentials: true },
      // CORS does not guard a WebSocket.
      allowRequest: (request, decide) => {
        if (fastify.lifecycle.closing) return decide('SHUTTING_DOWN', false)
        const allowed = fastify.originAllowed(request)
        decide(
          allowed ? null : `ORIGIN_REFUSED: ${new AppError('ORIGIN_REFUSED').message}`,
          allowed,
        )
      },
      preClose: (done) => {
        const graceMs = Math.min(closeGraceMs, config.SHUTDOWN_GRACE_MS / 4)
        void connections.close(graceMs).then(() => done())
      },
    })
    const { io } = fastify
    const socketRooms = new SocketRooms(io, fastify.generations.reader, fastify.generations.cluster)
    const socketSessions = new SocketSessions(io, sessions)
    fastify.decorate('socketRooms', socketRooms)
    fastify.decorate('socketSessions', socketSessions)
    fastify.decorate('clientEvents', events)
    fastify.decorate('onClientEvent', <S extends TSchema>(event: ClientEvent<S>) => {
      events.set(event.name, event as unknown as ClientEvent<TSchema>)
    })

    io.engine.on('connection', (connection: EngineConnection) => connections.add(connection))

    io.use((socket, next) => {
      const refuse = (error: unknown) => {
        next(refusal(error))
        // After the refusal is sent. A connection without a socket has no use.
        setImmediate(closeTransport, socket.conn)
      }
      if (!connections.claim(socket.conn)) {
        return refuse(new AppError('BAD_REQUEST', { message: 'A connection bears one socket.' }))
      }
      authenticate(socket).then(() => next(), refuse)
    })

    async function authenticate(socket: ChatSocket): Promise<void> {
      const { auth, headers } = socket.handshake
      await socketSessions.open(socket, auth.token || headers.authorization)
      await countOpen(socket)
    }

    /** Counts a socket as its user's, as long as its connection lasts. */
    async function countOpen({ conn, data }: ChatSocket): Promise<void> {
      const close = await userLimits.openSocket(data.userId)
      conn.once('close', close)
      // It may have closed while it was counted.
      if (conn.readyState === 'closed') close()
    }

    function refusal(error: unknown): Error {
      const known = asAppError(error)
      return Object.assign(new Error(known.message), { data: wireError(known) })
    }

    function asAppError(error: unknown): AppError {
      if (error instanceof AppError) return error
      log.error({ err: error }, 'a socket event failed')
      return new AppError('INTERNAL')
    }

    // All sockets share these handlers: a closure for each would double what a socket costs.
    io.on('connection', (socket) => {
      socketRooms.admit(socket)
      socket.on('disconnect', forget)
      socket.onAny(hear)
      socketSessions.admit(socket)
    })

    function forget(this: ChatSocket) {
      socketRooms.forget(this)
      socketSessions.forget(this)
      // A client that left the namespace would keep its connection.
      closeTransport(this.conn)
    }

    const isWithinLimit = eventLimit(config.RATE_LIMIT_SOCKET_EVENTS_PER_SECOND, (socket) => {
      log.info({ userId: socket.data.userId }, 'a socket that floods was disconnected')
      socket.disconnect()
    })

    function hear(this: ChatSocket, name: string, ...args: unknown[]) {
      const last = args.at(-1)
      const acknowledge =
        typeof last === 'function'
          ? (last as Acknowledge)
          : // A client without acknowledgements hears of its errors by an event.
            (answer: object) => {
              if ('error' in answer)
                (this as ErrorSocket).emit('event-error', { event: name, ...answer })
            }
      const refuse = (error: unknown) => {
        const answer = { ok: false, error: wireError(asAppError(error)) }
        socketRooms.answer(this, () => acknowledge(answer))
      }
      if (!isWithinLimit(this)) return refuse(new AppError('RATE_LIMITED'))
      const payload = typeof args[0] === 'function' ? undefined : args[0]
      run(name, payload, this).then((answer) => {
        socketRooms.answer(this, () => {
          try {
            acknowledge({ ok: true, ...(typeof answer === 'function' ? answer() : answer) })
          } catch (error) {
            // It cannot be made, or not be encoded.
            acknowledge({ ok: false, error: wireError(asAppError(error)) })
          }
        })
      }, refuse)
    }

    async function run(name: string, payload: unknown, socket: ChatSocket): Promise<Answer> {
      userLimits.countRequest(socket.data.userId)
      const event = events.get(name)
      if (!event) throw new AppError('NOT_FOUND', { message: 'There is no such event.' })
      const checked = check(event, payload)
      await socketSessions.check(socket)
      return event.handle(checked, socket)
    }

    function check({ name, payload: model, bareField }: ClientEvent<TSchema>, payload: unknown) {
      const isBare = bareField !== undefined && typeof payload === 'string'
      try {
        return fastify.validatePayload(model, isBare ? { [bareField]: payload } : payload)
      } catch (error) {
        if (error instanceof AppError && error.code === 'VALIDATION_FAILED') {
          const orBare = bareField ? ` or the ${bareField} alone` : ''
          error.message += ` ${name} takes ${shapeOf(model)}${orBare}.`
        }
        throw error
      }
    }

    const stopListening = fastify.chatEvents.listen(socketRooms)
    fastify.addHook('onClose', async () => {
      stopListening()
      socketRooms.close()
      socketSessions.close()
    })
  },
  {
    name: 'socket',
    dependencies: ['auth', 'chat', 'limits', 'observability', 'security', 'validation'],
  },
)

interface ErrorSocket {
  emit(event: 'event-error', payload: object): boolean
}

function wireError({ code, message, retryable }: AppError) {
  return { code, message, retryable }
}

/** A payload's fields, such as `{chatId, offset?}`. */
function shapeOf(model: TSchema): string {
  const { properties = {}, required = [] }: TSchema = models.get(model.$ref.slice(0, -1)) ?? model
  const names = Object.keys(properties).map((name) => (required.includes(name) ? name : `${name}?`))
  return `{${names.join(', ')}}`
}

/** Counts sockets' events by the second; `onAbuse` is called once in it with one that floods. */
function eventLimit(
  perSecond: number,
  onAbuse: (socket: ChatSocket) => void,
): (socket: ChatSocket) => boolean {
  let windowEnds = 0
  let counts = new WeakMap<ChatSocket, number>()
  return (socket) => {
    const now = Date.now()
    if (now >= windowEnds) {
      windowEnds = now + 1000
      counts = new WeakMap()
    }
    const count = (counts.get(socket) ?? 0) + 1
    counts.set(socket, count)
    if (count === perSecond * abuseFactor) onAbuse(socket)
    return count <= perSecond
  }
}
