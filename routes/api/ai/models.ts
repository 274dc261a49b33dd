import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { ModelList } from '../../../schemas/models.js'

const routes: FastifyPluginAsyncTypebox = async (fastify) => {
  fastify.get(
    '/models',
    {
      schema: {
        operationId: 'listModels',
        tags: ['models'],
        summary: 'List the models',
        description: 'The models that Ollama lists.',
        errors: [
          'RATE_LIMITED',
          'MODEL_UNREACHABLE',
          'MODEL_FAILED',
          'MODEL_BAD_RESPONSE',
          'MODEL_CUT',
          'MODEL_TIMEOUT',
          'SHUTTING_DOWN',
        ],
        response: { 200: ModelList },
      },
    },
    async () => ({ models: await fastify.ollama.catalogue.list() }),
  )
}

export default routes
