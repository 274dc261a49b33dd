import type { ServerResponse } from 'node:http'
import { findModel, listed, loaded, type StandInModel, shown } from './stand-in-models.js'

/** The paths that take a body. */
export const asking = new Set(['/api/chat', '/api/show'])

/** Answers every path but /api/chat. */
export function answer(
  path: string,
  name: string,
  models: readonly StandInModel[],
  response: ServerResponse,
) {
  switch (path) {
    case '/':
      return plain(response, 200)
    case '/api/version':
      return json(response, 200, { version: '0.11.4' })
    case '/api/tags':
      return json(response, 200, { models: models.map(listed) })
    case '/api/ps': {
      const isLoaded = ({ loadedContextLength }: StandInModel) => loadedContextLength !== undefined
      return json(response, 200, { models: models.filter(isLoaded).map(loaded) })
    }
    case '/api/show': {
      const model = findModel(models, name)
      if (model) return json(response, 200, shown(model))
      return json(response, 404, { error: `model '${name}' not found` })
    }
    default:
      return plain(response, 404)
  }
}

export function json(response: ServerResponse, status: number, body: unknown) {
  const text = JSON.stringify(body)
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
  })
  response.end(text)
}

const texts = {
  200: 'Ollama is running',
  404: '404 page not found',
  405: '405 method not allowed',
}

export function plain(response: ServerResponse, status: keyof typeof texts) {
  const type = status === 200 ? 'text/plain; charset=utf-8' : 'text/plain'
  response.writeHead(status, { 'content-type': type }).end(texts[status])
}
