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
    const { config, store, cache, shared, ollama, log, jwtSecret } = fastify
    const hub = new Hub((err) => log.error({ err }, 'an event was not told to every listener'))
    const limits = { maxNumCtx: config.MAX_NUM_CTX, maxNumPredict: config.MAX_NUM_PREDICT }
    const generations = new Generations(
      { store, cache, shared, client: ollama.client, catalogue: ollama.catalogue, hub, log },
      {
        maxConcurrent: config.OLLAMA_MAX_CONCURRENT,
        userMaxConcurrent: config.USER_MAX_CONCURRENT,
        queueMax: config.QUEUE_MAX,
        userQueueMax: config.USER_QUEUE_MAX,
        leaseMs: config.LEASE_MS,
        limits,
      },
    )
    const { catalogue } = ollama
    const cursors = createCursors(jwtSecret)
    const chats = new Chats(store, cache, cursors, hub, generations, catalogue, {
      ...limits,
      maxChats: config.RATE_LIMIT_USER_CHATS,
    })
    fastify.decorate('hub', hub)
    fastify.decorate('generations', generations)
    fastify.decorate('chats', chats)
    fastify.decorate('turns', new Turns(generations))

    await generations.start()
    // Streams end here, so that the server's own close does not wait for them.
    fastify.addHook('preClose', () => generations.close())
  },
  { name: 'chat', dependencies: ['db', 'redis', 'ollama'] },
)
