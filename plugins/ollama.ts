import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../src/errors.js'
import { createModelCatalogue } from '../src/ollama/catalogue.js'
import { createOllamaClient } from '../src/ollama/client.js'
import { startElizaServer } from '../src/ollama/eliza/eliza-server.js'
import { ServedCalls } from '../src/ollama/served-calls.js'

declare module 'fastify' {
  interface FastifyInstance {
    ollama: ReturnType<typeof createOllama>
  }
}

function createOllama(fastify: FastifyInstance, address: string) {
  const { cache, config, shared } = fastify
  const served = new ServedCalls(cache, {
    ttlMs: config.OLLAMA_LOAD_TIMEOUT_MS + config.OLLAMA_FIRST_TOKEN_TIMEOUT_MS,
    reorderMs: config.OLLAMA_CONNECT_TIMEOUT_MS,
  })
  const client = createOllamaClient({
    url: address,
    apiKey: config.OLLAMA_API_KEY,
    keptConnections: config.OLLAMA_MAX_CONCURRENT,
    connectTimeoutMs: config.OLLAMA_CONNECT_TIMEOUT_MS,
    firstTokenTimeoutMs: config.OLLAMA_FIRST_TOKEN_TIMEOUT_MS,
    loadTimeoutMs: config.OLLAMA_LOAD_TIMEOUT_MS,
    idleTimeoutMs: config.OLLAMA_IDLE_TIMEOUT_MS,
    served: shared && served,
  })
  const { origin, pathname } = new URL(address)
  const url = `${origin}${pathname}`.replace(/\/$/, '')
  const catalogue = createModelCatalogue(client, { cache, url, defaultModel: config.DEFAULT_MODEL })
  return { client, catalogue, url }
}

/** Errors about the default model: Ollama itself answers. */
const defaultFaults: ReadonlySet<string> = new Set(['MODEL_NOT_FOUND', 'MODEL_CANNOT'])

/** Ollama: the one of OLLAMA_API_URL, else an embedded server of its API. */
export default fp(
  async (fastify) => {
    const outside = fastify.config.OLLAMA_API_URL
    const server =
      outside === undefined
        ? await startElizaServer(fastify.config.ELIZA_PACE_MS)
        : { url: outside, close: async () => {} }
    const ollama = createOllama(fastify, server.url)
    fastify.decorate('ollama', ollama)
    fastify.addHook('onClose', async () => {
      await ollama.client.close()
      await server.close()
    })

    fastify.log.info(
      outside === undefined
        ? `models: the embedded ELIZA at ${ollama.url}; set OLLAMA_API_URL to use Ollama`
        : `models: Ollama at ${ollama.url}; unset OLLAMA_API_URL to use the embedded ELIZA`,
    )
    // Asked before the first request comes. Ollama may be away at the start and come later.
    ollama.catalogue.find().catch((error: unknown) => {
      if (error instanceof AppError && error.code === 'SHUTTING_DOWN') return
      if (error instanceof AppError && defaultFaults.has(error.code)) {
        return fastify.log.warn(error.message)
      }
      if (error instanceof AppError && error.code === 'MODEL_BAD_RESPONSE') {
        const said = `OLLAMA_API_URL: what answers at ${ollama.url} is not Ollama (${error.message})`
        return fastify.log.error(
          `${said} Set it to the address of an Ollama, such as http://localhost:11434`,
        )
      }
      fastify.log.warn(
        { err: error },
        'Ollama does not answer yet; messages are refused until it does',
      )
    })
  },
  { name: 'ollama', dependencies: ['redis'] },
)
