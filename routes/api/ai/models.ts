import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { errors } from '../../../schemas/common.js'
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
        response: { 200: ModelList, ...errors(400, 401, 429, 500, 502, 503, 504) },
      },
    },
    async () => ({ models: await fastify.ollama.catalogue.list() }),
  )
}

export default routes
