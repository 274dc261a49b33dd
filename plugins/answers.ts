import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'

type Write = (model: Record<string, unknown>) => string

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Answers 200 with the bytes that `read` resolves with: a model as `write` puts it, by the
     * route's own schema, whether for this answer or for one before.
     */
    sendWritten(read: (write: Write) => Promise<Buffer>): void
  }
}

/** How answers are sent: those of one turn of the loop together, and pages as bytes. */
export default fp(
  async (fastify) => {
    const ready: (() => void)[] = []

    function writeReady(): void {
      try {
        for (let write = ready.shift(); write; write = ready.shift()) write()
      } finally {
        // One that throws must not keep the others from their clients.
        if (ready.length > 0) setImmediate(writeReady)
      }
    }

    // One by one, and with what each leaves to do between them, every write wakes the client that
    // waits for it, which costs as much as the rest of a request where that client is a proxy on
    // this machine.
    fastify.addHook('onSend', (_request, _reply, payload, done) => {
      if (ready.push(() => done(null, payload)) === 1) setImmediate(writeReady)
    })

    fastify.decorateReply('sendWritten', function sendWritten(this: FastifyReply, read) {
      read((model) => String(this.serializeInput(model, '200'))).then(
        // Nothing is given back: to a promise a reply is one more promise to wait for.
        (bytes) => void this.type('application/json; charset=utf-8').send(bytes),
        (error: unknown) => void this.send(error),
      )
    })
  },
  { name: 'answers' },
)
