import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { patienceMs } from './eventually.js'
import { answer, asking, json, plain } from './stand-in-answers.js'
import { findModel, type StandInModel, standInModel } from './stand-in-models.js'
import { type ChatBody, deterministic, type Script, type Step } from './stand-in-script.js'

export { closingTemplate, type StandInModel, standInModel } from './stand-in-models.js'
export { standInReply, standInThinking } from './stand-in-reply.js'
export { byteEvery, faults, never, type Script, type Step } from './stand-in-script.js'

/** One request, as the stand-in saw it. */
export interface StandInCall {
  method: string
  path: string
  headers: IncomingMessage['headers']
  /** Without model and messages if the request had no body. */
  body: ChatBody
  /** Counts the connections from 1: equal for calls over the same one. */
  connection: number
  /** Whether the whole answer was sent. */
  answered: boolean
  /** Whether its connection is closed. */
  closed: boolean
  whenClosed: Promise<void>
  /** Resolves when the answer was sent, or its connection is closed. */
  whenOver: Promise<void>
}

export interface StandInOptions {
  models?: StandInModel[]
  script?: Script
  port?: number
  /** What answers a path in place of Ollama. */
  routes?: Record<string, (request: IncomingMessage, response: ServerResponse) => void>
}

/** Undefined where it is not JSON. */
function bodyOf(sent: string): Partial<ChatBody> | undefined {
  try {
    return JSON.parse(sent)
  } catch {
    return undefined
  }
}

/** Starts a scriptable server of Ollama's API on 127.0.0.1. */
export async function startStandIn(options: StandInOptions = {}) {
  const models = options.models ?? [{ ...standInModel }]
  const routes = options.routes ?? {}
  const calls: StandInCall[] = []
  const connections = new WeakMap<Socket, { number: number; whenClosed: Promise<void> }>()
  const waiting = new Set<() => void>()
  let script = options.script ?? deterministic
  let connectionCount = 0
  let openCount = 0
  let server: Server

  async function start(port: number) {
    server = createServer((request, response) => {
      serve(request, response).catch((error: unknown) => response.destroy(error as Error))
    })
    server.keepAliveTimeout = 60_000
    server.on('connection', (socket: Socket) => {
      connectionCount += 1
      openCount += 1
      socket.once('close', () => {
        openCount -= 1
      })
      // A promise of 'close' alone: `once` would reject at the reset that is being tested.
      const whenClosed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      connections.set(socket, { number: connectionCount, whenClosed })
    })
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }

  /** As if it were killed: nothing listens, every connection is closed. */
  async function stop() {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }

  const port = await start(options.port ?? 0)

  async function serve(request: IncomingMessage, response: ServerResponse) {
    const path = request.url ?? '/'
    const sent = bodyOf(await text(request))
    const call = watch(request, response, path, sent)
    calls.push(call)
    for (const look of waiting) look()
    const own = routes[path]
    if (own) return own(request, response)
    if (path === '/calls') return json(response, 200, calls)
    const isAsked = asking.has(path)
    if (isAsked !== (request.method === 'POST')) return plain(response, 405)
    if (isAsked && !sent) return json(response, 400, { error: 'invalid character' })
    if (isAsked && !sent?.model) return json(response, 400, { error: 'model is required' })
    if (path === '/api/chat') return chat(call, response)
    answer(path, call.body.model, models, response)
  }

  function watch(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    sent: Partial<ChatBody> | undefined,
  ) {
    const connection = connections.get(request.socket)
    const call: StandInCall = {
      method: request.method ?? '',
      path,
      headers: request.headers,
      body: { model: '', messages: [], ...sent },
      connection: connection?.number ?? 0,
      answered: false,
      closed: false,
      whenClosed: (connection?.whenClosed ?? Promise.resolve()).then(() => {
        call.closed = true
      }),
      whenOver: new Promise((resolve) => {
        response.once('close', () => {
          call.answered = response.writableFinished
          resolve()
        })
      }),
    }
    return call
  }

  async function chat(call: StandInCall, response: ServerResponse) {
    const { body } = call
    const model = findModel(models, body.model)
    if (!model) {
      const error = `model "${body.model}" not found, try pulling it first`
      return json(response, 404, { error })
    }
    if (body.think && !model.capabilities.includes('thinking')) {
      const name = `registry.ollama.ai/library/${body.model}`
      return json(response, 400, { error: `${name} does not support thinking` })
    }
    if (body.messages.length === 0) {
      const message = { role: 'assistant', content: '' }
      const created_at = new Date().toISOString()
      const answer = { model: body.model, created_at, message, done_reason: 'load', done: true }
      return json(response, 200, answer)
    }
    const run = createRun(body, call, response)
    const steps = script(body, model)
    for await (const step of steps) {
      if (response.destroyed || response.writableEnded) return
      await run(step)
    }
    if (!response.destroyed && !response.writableEnded) {
      await run({ done: { done_reason: 'stop' } })
    }
  }

  return {
    url: `http://127.0.0.1:${port}`,
    port,
    models,
    calls,
    /** How many connections were made, and how many of them are open. */
    get connections() {
      return { made: connectionCount, open: openCount }
    },
    /** The calls of one path. */
    callsOf: (path: string) => calls.filter((call) => call.path === path),
    /** Resolves with the `count`th call of /api/chat, once it is there. */
    async chatCall(count = 1): Promise<StandInCall> {
      return new Promise((resolve, reject) => {
        const done = () => {
          waiting.delete(look)
          clearTimeout(timer)
        }
        const look = () => {
          const call = calls.filter(({ path }) => path === '/api/chat')[count - 1]
          if (!call) return
          done()
          resolve(call)
        }
        const timer = setTimeout(() => {
          done()
          reject(new Error(`the stand-in had no ${count} calls of /api/chat`))
        }, patienceMs)
        waiting.add(look)
        look()
      })
    },
    /** What answers /api/chat from now on; without one, the deterministic model. */
    setScript(next: Script = deterministic) {
      script = next
    },
    stop,
    /** Listens again where it did, after `stop`. */
    async restart() {
      await start(port)
    },
    close: stop,
  }
}

/** Does the steps of one call, each when the one before is written. */
function createRun(body: ChatBody, call: StandInCall, response: ServerResponse) {
  const open = () => {
    if (!response.headersSent) {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    }
  }
  const write = async (bytes: Buffer | string) => {
    open()
    if (bytes.length === 0) return response.flushHeaders()
    if (response.write(bytes)) return
    await Promise.race([new Promise((resolve) => response.once('drain', resolve)), call.whenOver])
  }
  const line = (value: unknown) => write(`${JSON.stringify(value)}\n`)
  const message = (fields: object, rest: object) =>
    line({
      model: body.model,
      created_at: new Date().toISOString(),
      message: { role: 'assistant', content: '', ...fields },
      ...rest,
    })

  return async (step: Step): Promise<void> => {
    if ('content' in step) return message({ content: step.content }, { done: false })
    if ('thinking' in step) return message({ thinking: step.thinking }, { done: false })
    if ('line' in step) return line(step.line)
    if ('raw' in step) return write(step.raw)
    if ('wait' in step) {
      await Promise.race([step.wait, call.whenOver])
    } else if ('status' in step) {
      response.writeHead(step.status, step.headers)
      response.flushHeaders()
    } else if ('done' in step) {
      await message({}, { ...step.done, done: true })
      response.end()
    } else if ('end' in step) {
      open()
      response.end()
    } else if ('close' in step) {
      response.socket?.end()
    } else {
      response.socket?.resetAndDestroy()
    }
  }
}
