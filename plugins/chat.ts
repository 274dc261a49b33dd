import fp from 'fastify-plugin'
import { Chats } from '../src/chat/chats.js'
import { createCursors } from '../src/chat/cursor.js'
import { Generations } from '../src/chat/generations.js'
import { Hub } from '../src/chat/hub.js'
import { Turns } from '../src/chat/turns.js'

declare module 'fastify' {
  interface FastifyInstance {
    hub: Hub
    chats: Chats
    generations: Generations
    turns: Turns
  }
}

/** The generation engine and the chats it works on. */
export default fp(
  async (fastify) => {
    const { config, store, cache, ollama, log, jwtSecret } = fastify
    const hub = new Hub()
    const generations = new Generations(
      { store, cache, client: ollama.client, catalogue: ollama.catalogue, hub, log },
      {
        maxConcurrent: config.OLLAMA_MAX_CONCURRENT,
        userMaxConcurrent: config.USER_MAX_CONCURRENT,
        queueMax: config.QUEUE_MAX,
        leaseMs: config.LEASE_MS,
      },
    )
    const chats = new Chats(store, cache, createCursors(jwtSecret), hub, generations)
    fastify.decorate('hub', hub)
    fastify.decorate('generations', generations)
    fastify.decorate('chats', chats)
    fastify.decorate('turns', new Turns(generations))

    generations.start()
    // Streams end here, so that the server's own close does not wait for them.
    fastify.addHook('preClose', () => generations.close())
  },
  { name: 'chat', dependencies: ['db', 'redis', 'ollama'] },
)
