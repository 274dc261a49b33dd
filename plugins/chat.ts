import fp from 'fastify-plugin'
import { Chats } from '../src/chats/chats.js'
import { createCursors } from '../src/chats/cursors.js'
import { createEngine } from '../src/engine/create-engine.js'
import type { Generations } from '../src/engine/generations.js'
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
    const { client, catalogue } = ollama
    const chatEvents = new ChatEvents(log)
    const limits = { maxNumCtx: config.MAX_NUM_CTX, maxNumPredict: config.MAX_NUM_PREDICT }
    const generations = createEngine(
      { store, cache, shared, client, catalogue, chatEvents, log },
      {
        queue: {
          maxConcurrent: config.OLLAMA_MAX_CONCURRENT,
          userMaxConcurrent: config.USER_MAX_CONCURRENT,
          maxWaiting: config.QUEUE_MAX,
          userMaxWaiting: config.USER_QUEUE_MAX,
        },
        options: limits,
        leaseMs: config.LEASE_MS,
      },
    )
    const cursors = createCursors(jwtSecret)
    const maxChats = config.RATE_LIMIT_USER_CHATS
    const chats = new Chats({
      ...{ store, cache, cursors, chatEvents, generations, catalogue, limits, maxChats },
    })
    fastify.decorate('chatEvents', chatEvents)
    fastify.decorate('generations', generations)
    fastify.decorate('chats', chats)
    fastify.decorate('replyResponses', new ReplyResponses(generations))

    await generations.start()
    // Streams end before the server's own close, which would wait for them.
    fastify.addHook('preClose', () => generations.close())
  },
  { name: 'chat', dependencies: ['db', 'redis', 'ollama'] },
)
