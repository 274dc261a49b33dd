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
    /** Whether the client accepts server-sent events and does not accept JSON. */
    wantsEvents(): boolean
  }
  interface FastifyReply {
    /**
     * A signal that aborts when the client disconnects early, or, with an AppError that says why, when
     * its session ends.
     */
    goneSignal(): AbortSignal
    /**
     * Sends server-sent events, no faster than the client reads. When `gone` aborts with an AppError,
     * the stream ends with an event `error`.
     */
    sendEvents(events: AsyncIterable<SentEvent>, gone: AbortSignal): FastifyReply
  }
}

/** Proxies and phones drop connections that are silent for longer, in milliseconds. */
const heartbeatMs = 15_000
/** A client that reads nothing for this long is disconnected, in milliseconds; it may rejoin. */
const stalledMs = 30_000
/** How long a client may take to read the last event after its session ended, in milliseconds. */
const lastEventMs = 1000

/** Responses as server-sent events. */
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
      // Without it nginx buffers the events.
      this.header('X-Accel-Buffering', 'no')
      // HEAD gets the headers only.
      if (this.request.method === 'HEAD') return this.send(Readable.from([]))
      this.raw.setTimeout(stalledMs, () => this.raw.destroy())
      gone.addEventListener('abort', () => {
        setTimeout(() => this.raw.destroy(), lastEventMs).unref()
      })
      return this.send(
        Readable.from(encode(events, gone, bytesOf), { objectMode: false, highWaterMark: 0 }),
      )
    })
  },
  { name: 'streaming', dependencies: ['auth'] },
)

/** Encodes an event once for all its readers: slow ones share the buffer. */
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

/** Encodes events as text/event-stream, with a comment as heartbeat after a silence. */
async function* encode(
  events: AsyncIterable<SentEvent>,
  gone: AbortSignal,
  bytesOf: (event: SentEvent) => Buffer,
): AsyncGenerator<Buffer> {
  const iterator = events[Symbol.asyncIterator]()
  // Headers are sent with the first bytes, so send some at once.
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

/** Resolves as `next` does, or with `heartbeat` after a silence or as soon as `gone` aborts. */
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
