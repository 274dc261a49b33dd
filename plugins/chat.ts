import fp from 'fastify-plugin'
import { Chats } from '../src/chats/chats.js'
import { createCursors } from '../src/chats/cursors.js'
import { Generations } from '../src/engine/generations.js'
import { ReplyResponses } from '../src/engine/reply-responses.js'
import { ChatEvents } from '../src/reply/chat-events.js'

declare module 'fastify' {
  interface FastifyInstance {
    chatEvents: ChatEvents
    chats: Chats
    generations: Generations
    replyResponses: ReplyResponses
  }
}

/** The generation engine and the chats it works on. */
export default fp(
  async (fastify) => {
    const { config, store, cache, shared, ollama, log, jwtSecret } = fastify
    const chatEvents = new ChatEvents((err) =>
      log.error({ err }, 'an event was not told to every listener'),
    )
    const limits = { maxNumCtx: config.MAX_NUM_CTX, maxNumPredict: config.MAX_NUM_PREDICT }
    const generations = new Generations(
      { store, cache, shared, client: ollama.client, catalogue: ollama.catalogue, chatEvents, log },
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
    const chats = new Chats(store, cache, cursors, chatEvents, generations, catalogue, {
      ...limits,
      maxChats: config.RATE_LIMIT_USER_CHATS,
    })
    fastify.decorate('chatEvents', chatEvents)
    fastify.decorate('generations', generations)
    fastify.decorate('chats', chats)
    fastify.decorate('replyResponses', new ReplyResponses(generations))

    await generations.start()
    // Streams end here, so that the server's own close does not wait for them.
    fastify.addHook('preClose', () => generations.close())
  },
  { name: 'chat', dependencies: ['db', 'redis', 'ollama'] },
)
