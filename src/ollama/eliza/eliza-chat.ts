import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { isRecord } from '../model-errors.js'
import { type ElizaMessage, eliza, elizaAnswer } from './eliza.js'
import { HttpFault, modelNotFound, readJson } from './eliza-request.js'

const roles = ['system', 'user', 'assistant', 'tool']

interface ChatInput {
  model: string
  messages: ElizaMessage[]
  stream: boolean
  /** The most words to answer with. */
  numPredict: number
}

/** POST /api/chat. @throws HttpFault as Ollama answers it. */
export async function answerChat(
  request: IncomingMessage,
  response: ServerResponse,
  wordMs: number,
) {
  const startedAt = process.hrtime.bigint()
  const input = parseChat(await readJson(request))
  const { model, messages, stream, numPredict } = input
  const line = (content: string, rest: object) => ({
    model,
    created_at: new Date().toISOString(),
    message: { role: 'assistant', content },
    ...rest,
  })
  if (messages.length === 0) {
    return sendWhole(response, line('', { done_reason: 'load', done: true }))
  }

  const words = wordsOf(remainder(await elizaAnswer(messages), messages))
  const said = words.slice(0, numPredict)
  const readAt = process.hrtime.bigint()
  if (stream) await streamWords(response, said, wordMs, (word) => line(word, { done: false }))
  if (response.destroyed) return
  const endedAt = process.hrtime.bigint()
  const result = {
    done_reason: said.length < words.length ? 'length' : 'stop',
    done: true,
    ...withoutZeros({
      total_duration: Number(endedAt - startedAt),
      prompt_eval_count: promptTokens(messages),
      prompt_eval_duration: Number(readAt - startedAt),
      eval_count: said.length,
      eval_duration: Number(endedAt - readAt),
    }),
  }
  if (stream) response.end(`${JSON.stringify(line('', result))}\n`)
  else sendWhole(response, line(said.join(''), result))
}

/** Resolves when all is written, or the client has gone. */
async function streamWords(
  response: ServerResponse,
  words: readonly string[],
  wordMs: number,
  lineOf: (word: string) => object,
) {
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  for (const [index, word] of words.entries()) {
    if (index > 0 && wordMs > 0) {
      await delay(wordMs, undefined, { signal: gone.signal }).catch(() => {
        // Aborted: the client has gone, which is seen below.
      })
    }
    if (response.destroyed) return
    response.write(`${JSON.stringify(lineOf(word))}\n`)
  }
}

function parseChat(body: Record<string, unknown>): ChatInput {
  const { model } = body
  if (typeof model !== 'string' || (model !== eliza.name && model !== `${eliza.name}:latest`)) {
    throw modelNotFound(model)
  }
  if (body.think && body.think !== 'none') {
    throw new HttpFault(400, `${JSON.stringify(model)} does not support thinking`)
  }
  if (Array.isArray(body.tools) && body.tools.length > 0) {
    throw new HttpFault(400, `${JSON.stringify(model)} does not support tools`)
  }
  const options = isRecord(body.options) ? body.options : {}
  const predict = options.num_predict
  return {
    model,
    messages: parseMessages(body.messages),
    stream: body.stream !== false,
    numPredict: typeof predict === 'number' && predict > 0 ? predict : Number.POSITIVE_INFINITY,
  }
}

function parseMessages(messages: unknown): ElizaMessage[] {
  if (messages === undefined || messages === null) return []
  if (!Array.isArray(messages)) throw new HttpFault(400, 'json: messages must be an array')
  return messages.map((message: unknown) => {
    const { role, content = '' } = isRecord(message) ? message : {}
    if (typeof role !== 'string' || !roles.includes(role)) {
      throw new HttpFault(
        400,
        `invalid role: ${JSON.stringify(role)}, must be one of ${JSON.stringify(roles)}`,
      )
    }
    if (typeof content !== 'string') {
      throw new HttpFault(400, 'json: cannot unmarshal message.content into a string')
    }
    return { role, content }
  })
}

/** What is left to say when the last message is an answer that was begun. */
function remainder(answer: string, messages: readonly ElizaMessage[]): string {
  const last = messages.at(-1)
  if (last?.role !== 'assistant') return answer
  // A model goes on after any beginning, also after one that it would not have made.
  return answer.startsWith(last.content) ? answer.slice(last.content.length) : ` ${answer}`
}

function wordsOf(text: string): string[] {
  return text.match(/\s*\S+|\s+$/g) ?? []
}

/** ELIZA has no tokens: about four characters make one elsewhere. */
function promptTokens(messages: readonly ElizaMessage[]): number {
  return Math.ceil(messages.reduce((sum, { content }) => sum + content.length, 0) / 4)
}

function withoutZeros(counts: Record<string, number>) {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))
}

function sendWhole(response: ServerResponse, answer: object) {
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' })
  response.end(`${JSON.stringify(answer)}\n`)
}
