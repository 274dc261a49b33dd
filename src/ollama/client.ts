import { Client, type Dispatcher } from 'undici'
import { AppError } from '../errors.js'
import { ChatCall, type ChatTimeouts, type OnDelta } from './chat-call.js'
import type { ChatResult } from './chat-lines.js'
import { Connections } from './connections.js'
import {
  type ListedModel,
  type LoadedModels,
  type ModelFacts,
  parseLoaded,
  parseShow,
  parseTags,
} from './model-answers.js'
import { badResponse, connectionError, isRecord, refusal } from './model-errors.js'
import type { ServedCalls } from './served-calls.js'

export type { ChatResult }

export interface ChatRequest {
  model: string
  messages: readonly { role: 'system' | 'user' | 'assistant'; content: string }[]
  /** Ollama's own options, by their own names. */
  options?: Readonly<Record<string, unknown>>
  think?: boolean | 'low' | 'medium' | 'high' | 'max'
}

export interface OllamaClient {
  /**
   * Streams one reply. `onDelta` is called once for each line that has text and never after this
   * settles; what it throws ends the call. Thinking in tags within the content is passed on as
   * thinking.
   * @param loadsModel whether Ollama has to load the model first.
   * @throws the signal's reason, or AppError MODEL_UNREACHABLE, MODEL_NOT_FOUND, MODEL_FAILED,
   * MODEL_TIMEOUT, MODEL_CUT, MODEL_BAD_RESPONSE, SHUTTING_DOWN. The connection is closed by then.
   */
  chat(
    request: ChatRequest,
    onDelta: OnDelta,
    signal: AbortSignal,
    loadsModel?: boolean,
  ): Promise<ChatResult>
  /** The models that are there. @throws as `chat` does. */
  list(): Promise<ListedModel[]>
  /** What a model is. @throws as `chat` does. */
  show(model: string): Promise<ModelFacts>
  /** @throws as `chat` does. */
  loaded(): Promise<LoadedModels>
  /** @throws as `chat` does. */
  version(): Promise<string>
  /** Ends every call, each with SHUTTING_DOWN, and every connection. */
  close(): Promise<void>
}

const answerBytes = 8 * 1024 * 1024
const longestAnswerMs = 10_000

interface ClientOptions extends ChatTimeouts {
  /** Where Ollama is; it may hold a path before `/api`, and credentials. */
  url: string
  /** A bearer for it, in place of credentials in the URL. */
  apiKey?: string | undefined
  /** How many connections are kept while nothing is asked. */
  keptConnections?: number
  /** Calls of other servers, where there are several. */
  served?: ServedCalls | undefined
}

export function createOllamaClient({
  url,
  apiKey,
  keptConnections = 4,
  served,
  ...timeouts
}: ClientOptions): OllamaClient {
  const { origin, pathname, username, password } = new URL(url)
  const base = pathname.replace(/\/+(api\/*)?$/, '')
  const answerMs = Math.min(timeouts.firstTokenTimeoutMs, longestAnswerMs)
  // The queue before this client bounds the calls, and ChatCall has time limits of its own.
  const options = {
    connectTimeout: timeouts.connectTimeoutMs,
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: 30_000,
  }
  const connections = new Connections(() => new Client(origin, options), keptConnections)
  /** The calls that have not ended, by their model, in the order in which they were sent. */
  const running = new Map<string, Set<ChatCall>>()

  const headers: Record<string, string> = {
    'accept-encoding': 'identity',
    'content-type': 'application/json',
  }
  if (apiKey !== undefined) headers.authorization = `Bearer ${apiKey}`
  else if (username || password) {
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
    headers.authorization = `Basic ${Buffer.from(credentials).toString('base64')}`
  }

  async function ask(path: string, body?: object) {
    const signal = AbortSignal.timeout(answerMs)
    const connection = connections.take()
    try {
      const response = await connection.request({
        method: body ? 'POST' : 'GET',
        path: base + path,
        headers,
        body: body && JSON.stringify(body),
        signal,
      })
      const answer = parseAnswer(path, response, await readBounded(path, response.body))
      connections.giveBack(connection)
      return answer
    } catch (cause) {
      connections.end(connection)
      if (signal.aborted) throw new AppError('MODEL_TIMEOUT', { cause })
      throw connectionError(cause, false)
    }
  }

  return {
    async chat(request, onDelta, signal, loadsModel = false) {
      signal.throwIfAborted()
      const connection = connections.take()
      const calls = running.get(request.model) ?? new Set()
      running.set(request.model, calls)
      const call = new ChatCall({
        model: request.model,
        timeouts,
        onDelta,
        signal,
        loadsModel,
        isBegun: request.messages.at(-1)?.role === 'assistant',
        ahead: [...calls],
        served,
        onFree: () => connections.giveBack(connection),
        disconnect: () => connections.end(connection),
      })
      calls.add(call)
      const body = JSON.stringify({ stream: true, ...request })
      connection.dispatch({ method: 'POST', path: `${base}/api/chat`, headers, body }, call)
      try {
        return await call.outcome
      } finally {
        calls.delete(call)
        if (calls.size === 0) running.delete(request.model)
      }
    },

    async list() {
      return parseTags(await ask('/api/tags').catch(notOllama('/api/tags')))
    },

    async show(model) {
      return parseShow(await ask('/api/show', { model }))
    },

    async loaded() {
      const answer = await ask('/api/ps').catch((error: unknown) => {
        // Ollama before 0.1.33 has no such route: then nothing is known of what is loaded.
        if (error instanceof AppError && error.code === 'MODEL_NOT_FOUND') return { models: [] }
        throw error
      })
      return parseLoaded(answer)
    },

    async version() {
      const { version } = await ask('/api/version').catch(notOllama('/api/version'))
      if (typeof version !== 'string') throw badResponse('/api/version without a version')
      return version
    },

    async close() {
      await connections.close()
    },
  }
}

/** A server without Ollama's routes is not Ollama. */
function notOllama(path: string) {
  return (error: unknown): never => {
    if (error instanceof AppError && error.code === 'MODEL_NOT_FOUND') {
      throw badResponse(`${path} with HTTP 404`, error)
    }
    throw error
  }
}

async function readBounded(path: string, body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > answerBytes) throw badResponse(`${path} with more than ${answerBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function parseAnswer(path: string, response: Dispatcher.ResponseData, body: Buffer) {
  const { statusCode, headers } = response
  if (statusCode >= 400) throw refusal(statusCode, body)
  if (statusCode !== 200) throw badResponse(`${path} with HTTP ${statusCode}`)
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw badResponse(`${path} in another encoding`, String(encoding))
  let answer: unknown
  try {
    answer = JSON.parse(body.toString())
  } catch (cause) {
    throw badResponse(`${path} with what is not JSON`, cause)
  }
  if (!isRecord(answer)) throw badResponse(`${path} with what is not an object`)
  return answer
}
