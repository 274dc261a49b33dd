import { Readable } from 'node:stream'
import accepts from '@fastify/accepts'
import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../src/errors.js'

interface SentEvent {
  event: string
  id: string
  data: object
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Whether the client wants server-sent events: it names them, and does not name JSON. */
    wantsEvents(): boolean
  }
  interface FastifyReply {
    /**
     * Aborted before the answer is whole when the client goes away, or, with an AppError that says
     * why, when its session ends.
     */
    goneSignal(): AbortSignal
    /**
     * Answers with server-sent events: each is sent when it comes, no faster than it is read. When
     * `gone` is aborted with an AppError, an event `error` says so and ends the stream.
     */
    sendEvents(events: AsyncIterable<SentEvent>, gone: AbortSignal): FastifyReply
  }
}

/** A proxy or a phone drops a connection that is silent for longer, in milliseconds. */
const heartbeatMs = 15_000
/** A client that has read nothing for so long is cut off, in milliseconds; it may rejoin. */
const patienceMs = 30_000
/** How long a client may take to read that its session has ended, in milliseconds. */
const goodbyeMs = 1000

/** Server-sent events as an answer. */
export default fp(
  async (fastify) => {
    await fastify.register(accepts)

    fastify.decorateRequest('wantsEvents', function wantsEvents() {
      const named = [this.types()].flat().map((type) => String(type).toLowerCase())
      return named.includes('text/event-stream') && !named.includes('application/json')
    })

    fastify.decorateReply('goneSignal', function goneSignal() {
      const gone = new AbortController()
      const stopWatching = fastify.sessions.watch(this.request.session.sessionId, (code) =>
        gone.abort(new AppError(code)),
      )
      this.raw.once('close', () => {
        stopWatching()
        if (!this.raw.writableFinished) gone.abort()
      })
      return gone.signal
    })

    const bytesOf = createEncoder()

    fastify.decorateReply('sendEvents', function sendEvents(this: FastifyReply, events, gone) {
      this.header('Content-Type', 'text/event-stream; charset=utf-8')
      this.header('Cache-Control', 'no-store')
      // nginx would hold the events back.
      this.header('X-Accel-Buffering', 'no')
      // HEAD gets the headers of a stream; the events are never asked for.
      if (this.request.method === 'HEAD') return this.send(Readable.from([]))
      this.raw.setTimeout(patienceMs, () => this.raw.destroy())
      gone.addEventListener('abort', () => {
        setTimeout(() => this.raw.destroy(), goodbyeMs).unref()
      })
      return this.send(
        Readable.from(encode(events, gone, bytesOf), { objectMode: false, highWaterMark: 0 }),
      )
    })
  },
  { name: 'streaming', dependencies: ['auth'] },
)

/** Encodes an event that many are sent once, so that those who do not read it hold it once. */
function createEncoder() {
  const known = new WeakMap<object, { id: string; bytes: Buffer }>()
  return ({ event, id, data }: SentEvent): Buffer => {
    const same = known.get(data)
    if (same?.id === id) return same.bytes
    const bytes = Buffer.from(`event: ${event}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`)
    known.set(data, { id, bytes })
    return bytes
  }
}

const heartbeat = Buffer.from(':\n\n')

/** Events as text/event-stream, with a comment where nothing else is said for a while. */
async function* encode(
  events: AsyncIterable<SentEvent>,
  gone: AbortSignal,
  bytesOf: (event: SentEvent) => Buffer,
): AsyncGenerator<Buffer> {
  const iterator = events[Symbol.asyncIterator]()
  // The headers go out with the first bytes, and a client should know at once that it is heard.
  yield heartbeat
  try {
    let next = iterator.next()
    for (;;) {
      const result = await orHeartbeat(next, gone)
      if (gone.reason instanceof AppError) {
        yield errorEvent(gone.reason)
        return
      }
      if (result === 'heartbeat') yield heartbeat
      else if (result.done) return
      else {
        yield bytesOf(result.value)
        next = iterator.next()
      }
    }
  } finally {
    await iterator.return?.()
  }
}

function errorEvent({ code, message, retryable }: AppError): Buffer {
  return Buffer.from(`event: error\ndata: ${JSON.stringify({ code, message, retryable })}\n\n`)
}

/** Resolves as `next` does; with `heartbeat` after a silence, or as soon as `gone` is aborted. */
async function orHeartbeat<T>(next: Promise<T>, gone: AbortSignal): Promise<T | 'heartbeat'> {
  let wake = () => {}
  const silence = new Promise<'heartbeat'>((resolve) => {
    wake = () => resolve('heartbeat')
  })
  const timer = setTimeout(wake, heartbeatMs).unref()
  gone.addEventListener('abort', wake)
  if (gone.aborted) wake()
  try {
    return await Promise.race([next, silence])
  } finally {
    clearTimeout(timer)
    gone.removeEventListener('abort', wake)
  }
}
