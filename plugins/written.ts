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

/** Answers that are written once and sent many times. */
export default fp(
  async (fastify) => {
    fastify.decorateReply('sendWritten', function sendWritten(this: FastifyReply, read) {
      read((model) => String(this.serializeInput(model, '200'))).then(
        (bytes) => this.type('application/json; charset=utf-8').send(bytes),
        (error: unknown) => this.send(error),
      )
    })
  },
  { name: 'written' },
)
