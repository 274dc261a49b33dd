import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { json } from 'node:stream/consumers'
import { nowUs } from './clock.js'
import { readPrompt } from './prompt.js'
import { type Remote, serve } from './rpc.js'

/*
 * Stands in for Ollama: tokens at a set rate, each as Ollama sends it, a line in an HTTP chunk of
 * its own. A reply's first token and some after it are the time at which they were sent.
 */
interface Stream {
  socket: Socket
  /** Milliseconds. */
  due: number
  period: number
  left: number
  sent: number
  word: Buffer
  stampEvery: number
  /** The word's length. */
  bytes: number
  finish: () => void
}

const streams = new Set<Stream>()
const counts = { tokens: 0, chars: 0, begun: 0, lateMs: 0 }

const line = (content: string, rest: object = { done: false }) =>
  `${JSON.stringify({
    model: 'bench',
    created_at: new Date().toISOString(),
    message: { role: 'assistant', content },
    ...rest,
  })}\n`

const chunk = (text: string) =>
  Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`)

const words = new Map<number, Buffer>()

function wordOf(bytes: number): Buffer {
  const known = words.get(bytes)
  if (known) return known
  const word = chunk(line(`${'word'.repeat(bytes).slice(0, bytes - 1)} `))
  words.set(bytes, word)
  return word
}

function emit(stream: Stream) {
  if (stream.sent % stream.stampEvery === 0) {
    const stamp = `@${nowUs()} `
    stream.socket.write(chunk(line(stamp)))
    counts.chars += stamp.length
  } else {
    stream.socket.write(stream.word)
    counts.chars += stream.bytes
  }
  stream.sent++
  stream.left--
  counts.tokens++
}

let timer: NodeJS.Timeout | undefined

function tick() {
  const now = performance.now()
  for (const stream of streams) {
    while (stream.due <= now && stream.left > 0) {
      counts.lateMs = Math.max(counts.lateMs, now - stream.due)
      stream.due += stream.period
      emit(stream)
    }
    if (stream.left <= 0) stream.finish()
  }
  if (streams.size > 0) return
  clearInterval(timer)
  timer = undefined
}

async function chat(request: IncomingMessage, response: ServerResponse) {
  const { messages } = (await json(request)) as { messages: { content: string }[] }
  const { rate, tokens, bytes, stampEvery } = readPrompt(messages.at(-1)?.content ?? '')
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  response.flushHeaders()
  const { socket } = response
  if (!socket) return
  socket.setNoDelay(true)
  const stream: Stream = {
    socket,
    due: performance.now(),
    period: 1000 / rate,
    left: tokens,
    sent: 0,
    stampEvery,
    word: wordOf(bytes),
    bytes,
    finish() {
      if (!streams.delete(stream)) return
      const amounts = { prompt_eval_count: 20, eval_count: stream.sent }
      const times = { total_duration: 2e9, prompt_eval_duration: 1e8, eval_duration: 1e9 }
      response.end(line('', { done: true, done_reason: 'stop', ...amounts, ...times }))
    },
  }
  response.once('close', () => streams.delete(stream))
  streams.add(stream)
  counts.begun++
  timer ??= setInterval(tick, 1)
}

const details = { format: 'gguf', family: 'bench', parameter_size: '8B' }
const model = { name: 'bench', model: 'bench', size: 1, digest: 'bench', details }

const answers: Record<string, object> = {
  '/api/version': { version: '0.11.4' },
  '/api/tags': { models: [{ ...model, modified_at: '2026-01-01T00:00:00Z' }] },
  '/api/ps': { models: [{ ...model, context_length: 4096 }] },
  '/api/show': {
    template: '{{ .Prompt }}',
    details,
    capabilities: ['completion'],
    model_info: { 'general.architecture': 'bench', 'bench.context_length': 8192 },
  },
}

const server = createServer((request, response) => {
  const path = request.url ?? ''
  if (path === '/api/chat') {
    chat(request, response).catch((error: unknown) => {
      response.writeHead(400).end(JSON.stringify({ error: String(error) }))
    })
    return
  }
  request.resume()
  const answer = answers[path]
  response.writeHead(answer ? 200 : 404, { 'content-type': 'application/json' })
  response.end(JSON.stringify(answer ?? { error: 'not found' }))
})
server.keepAliveTimeout = 72_000

const methods = {
  /** @returns the port it listens on. */
  listen: () =>
    new Promise<number>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', 4096, () => resolve((server.address() as AddressInfo).port))
    }),
  /** What was emitted since the start. `lateMs`: by how much at most a token was late, since asked. */
  counts() {
    const now = { ...counts, running: streams.size }
    counts.lateMs = 0
    return now
  },
  /** Ends every reply now, as if it were complete. */
  finish() {
    for (const stream of streams) stream.finish()
  },
}

export type Emitter = Remote<typeof methods>

serve(methods)
