import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { eliza } from './eliza.js'
import { answerChat } from './eliza-chat.js'
import { HttpFault, modelNotFound, readJson } from './eliza-request.js'

const version = '0.11.4'

const listed = {
  name: eliza.name,
  model: eliza.name,
  size: eliza.size,
  digest: eliza.digest,
  details: eliza.details,
}

type Handler = (
  request: IncomingMessage,
  response: ServerResponse,
  wordMs: number,
) => Promise<void> | void

const routes: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  '/': { GET: (_request, response) => sendText(response, 200, 'Ollama is running') },
  '/api/version': { GET: (_request, response) => sendJson(response, 200, { version }) },
  '/api/tags': {
    GET: (_request, response) =>
      sendJson(response, 200, { models: [{ ...listed, modified_at: eliza.modifiedAt }] }),
  },
  '/api/ps': {
    GET: (_request, response) =>
      sendJson(response, 200, {
        models: [
          {
            ...listed,
            // It is never unloaded.
            expires_at: '9999-12-31T23:59:59Z',
            size_vram: 0,
            context_length: eliza.contextLength,
          },
        ],
      }),
  },
  '/api/show': { POST: show },
  '/api/chat': { POST: answerChat },
}

/**
 * Starts the embedded server of Ollama's API, whose one model is ELIZA, on a free port of
 * 127.0.0.1. `close` ends its connections, whatever they were doing.
 * @param wordMs the time from one word of a streamed answer to the next; 0 for all at once.
 */
export async function startElizaServer(
  wordMs: number,
): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    serve(request, response, wordMs).catch((error: unknown) => {
      sendFault(response, error)
    })
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

async function serve(request: IncomingMessage, response: ServerResponse, wordMs: number) {
  const path = request.url?.split('?')[0] ?? '/'
  const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET')
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined
  if (!route) return sendText(response, 404, '404 page not found')
  const handler = Object.hasOwn(route, method) ? route[method] : undefined
  if (!handler) return sendText(response, 405, '405 method not allowed')
  await handler(request, response, wordMs)
}

async function show(request: IncomingMessage, response: ServerResponse) {
  const body = await readJson(request)
  const name = body.model ?? body.name
  if (name !== eliza.name && name !== `${eliza.name}:latest`) throw modelNotFound(name)
  sendJson(response, 200, {
    modelfile: `FROM ${eliza.name}\nTEMPLATE """${eliza.template}"""\n`,
    template: eliza.template,
    details: eliza.details,
    model_info: {
      'general.architecture': 'eliza',
      'eliza.context_length': eliza.contextLength,
    },
    capabilities: ['completion'],
    modified_at: eliza.modifiedAt,
  })
}

function sendFault(response: ServerResponse, error: unknown) {
  // Once the answer has begun, its end without `done` is what tells the client.
  if (response.headersSent) return response.destroy()
  const status = error instanceof HttpFault ? error.status : 500
  const message = error instanceof Error ? error.message : String(error)
  // What was not read of the request is not waited for.
  if (status === 413) response.setHeader('connection', 'close')
  sendJson(response, status, { error: message })
}

function sendJson(response: ServerResponse, status: number, body: object) {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' })
  response.end(JSON.stringify(body))
}

function sendText(response: ServerResponse, status: number, text: string) {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' })
  response.end(text)
}
