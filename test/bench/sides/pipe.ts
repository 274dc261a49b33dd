import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { settings } from './settings.js'

/*
 * The plain pipe, the least that Node can do: no accounts, no rooms, nothing kept.
 *   POST /chat/:id   the request goes to Ollama as it is, and its answer comes back as it is
 *   GET  /chat/:id   one more listener of that answer
 *   PUT  /bytes      keeps a body; GET /bytes serves it
 */
const answers = new Map<string, IncomingMessage>()
let kept = Buffer.alloc(0)

const server = createServer((incoming, response) => {
  const path = incoming.url ?? ''
  if (path === '/bytes') return bytes(incoming, response)
  if (incoming.method === 'GET') {
    const answer = answers.get(path)
    if (answer) answer.pipe(response)
    else response.writeHead(404).end()
    return
  }
  const headers = { 'content-type': 'application/json' }
  const outgoing = request(`${settings.ollama}/api/chat`, { method: 'POST', headers })
  outgoing.on('error', () => response.destroy())
  outgoing.on('response', (answer) => {
    answers.set(path, answer)
    answer.once('close', () => answers.delete(path))
    response.writeHead(answer.statusCode ?? 502, { 'content-type': 'application/x-ndjson' })
    answer.pipe(response)
  })
  incoming.pipe(outgoing)
})

async function bytes(incoming: IncomingMessage, response: ServerResponse) {
  if (incoming.method === 'PUT') kept = await buffer(incoming)
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': kept.length })
  response.end(kept)
}

server.keepAliveTimeout = 72_000
server.listen(settings.port, settings.host)
