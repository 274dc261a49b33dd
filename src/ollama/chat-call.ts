import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'
import { AppError } from '../errors.js'
import { type ChatResult, parseChatLine } from './chat-lines.js'
import { badResponse, connectionError, refusal } from './model-errors.js'
import { createLineSplitter } from './ndjson.js'
import type { ServedCalls } from './served-calls.js'
import { ThinkTags } from './think-tags.js'

export interface ChatTimeouts {
  connectTimeoutMs: number
  /** To the first line of a model that is loaded, while Ollama serves no earlier call of it. */
  firstTokenTimeoutMs: number
  /** The same of a model that Ollama has to load. */
  loadTimeoutMs: number
  /** From one line to the next; bytes that end no line don't count. */
  idleTimeoutMs: number
}

/** Takes the text of one line; either part may be empty, not both. */
export type OnDelta = (content: string, thinking: string) => void
type Phase = 'connecting' | 'waiting' | 'streaming'

interface Refused {
  status: number
  body: Buffer[]
  bytes: number
}

/** What a call needs. */
export interface CallParts {
  model: string
  timeouts: ChatTimeouts
  onDelta: OnDelta
  signal: AbortSignal
  /** Whether Ollama has to load the model first. */
  loadsModel: boolean
  /** Whether the reply goes on from a text that was begun. */
  isBegun: boolean
  /** Earlier calls of the same model, which Ollama may serve first. */
  ahead: readonly ChatCall[]
  /** Calls of other servers; undefined where there is no other server. */
  served: ServedCalls | undefined
  /** Called when the connection can be used again. */
  onFree: () => void
  /** Closes the connection. */
  disconnect: () => void
}

const errorBodyBytes = 64 * 1024
const errorBodyMs = 5_000
/** How long the body may take to end after the reply is done, for the connection to be kept. */
const drainMs = 1_000

/**
 * One streamed call of /api/chat, as undici's handler. It settles once. A failure closes the
 * connection, and no text is passed on after it.
 */
export class ChatCall implements Dispatcher.DispatchHandler {
  readonly #parts: CallParts
  readonly #tags: ThinkTags
  /** Calls that Ollama may still serve first. */
  #ahead: readonly ChatCall[]
  /** Whether Ollama loads the model first, for this call or for one ahead. */
  readonly #loads: boolean
  #servedAt = Number.NEGATIVE_INFINITY
  /** Resolves when the reply is done; rejects with AppError, or with the signal's reason. */
  readonly outcome: Promise<ChatResult>
  readonly #lines = createLineSplitter((line) => this.#takeLine(line))
  readonly #startedAt = performance.now()
  /** The same, in milliseconds since 1970. */
  readonly #beganAt = Date.now()
  #resolve: (result: ChatResult) => void = () => {}
  #reject: (reason: unknown) => void = () => {}
  #phase: Phase = 'connecting'
  #settled = false
  #deadline = 0
  #timer: NodeJS.Timeout | undefined
  #lastLook: NodeJS.Immediate | undefined
  /** Whether the answer's headers came and were good. */
  #answered = false
  #refused: Refused | undefined
  #calledTools = false

  constructor(parts: CallParts) {
    this.#parts = parts
    this.#ahead = parts.ahead
    const isLoading = parts.ahead.some((call) => call.isLoading)
    this.#loads = parts.loadsModel || isLoading
    if (parts.loadsModel && !isLoading) parts.served?.note(parts.model, this.#beganAt, true)
    this.#tags = new ThinkTags(parts.isBegun)
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    parts.signal.addEventListener('abort', this.#onAbort, { once: true })
    this.#expectWithin(parts.timeouts.connectTimeoutMs, this.#startedAt)
  }

  /** When Ollama last sent a line of this call, or the call ended. */
  get servedAt(): number {
    return this.#servedAt
  }

  /** Whether the model may still have to be loaded. */
  get isLoading(): boolean {
    return this.#loads && this.#phase !== 'streaming' && !this.#settled
  }

  #firstTokenMs(loads = this.#loads): number {
    const { firstTokenTimeoutMs, loadTimeoutMs } = this.#parts.timeouts
    return loads ? Math.max(loadTimeoutMs, firstTokenTimeoutMs) : firstTokenTimeoutMs
  }

  onRequestStart() {
    if (this.#settled) return
    this.#phase = 'waiting'
    this.#expectWithin(this.#firstTokenMs(), this.#startedAt)
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ) {
    if (status < 200 || this.#settled) return
    if (status >= 400) {
      this.#refused = { status, body: [], bytes: 0 }
      this.#expectWithin(Math.min(errorBodyMs, this.#parts.timeouts.idleTimeoutMs))
      return
    }
    if (status !== 200) return this.#fail(badResponse(`HTTP ${status}`))
    const encoding = headers['content-encoding'] ?? 'identity'
    if (encoding !== 'identity')
      return this.#fail(badResponse('text in another encoding', encoding))
    const type = headers['content-type'] ?? 'application/x-ndjson'
    if (!/json/i.test(type)) {
      return this.#fail(badResponse('content that is not JSON', type))
    }
    this.#answered = true
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer) {
    if (this.#settled) return
    if (this.#refused) return this.#takeErrorBody(this.#refused, chunk)
    try {
      this.#lines.push(chunk)
    } catch (error) {
      this.#fail(error)
    }
  }

  onResponseEnd() {
    this.#disarm()
    if (this.#settled) return this.#parts.onFree()
    if (this.#refused) return this.#fail(this.#refusal(this.#refused))
    const begun = this.#phase === 'streaming'
    try {
      this.#lines.end()
    } catch (error) {
      // Half a line after good lines was cut off; half a line alone is not Ollama's protocol.
      this.#fail(begun ? new AppError('MODEL_CUT', { cause: error }) : error)
    }
    this.#fail(new AppError('MODEL_CUT'))
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error) {
    this.#disarm()
    this.#parts.disconnect()
    if (this.#refused) return this.#fail(this.#refusal(this.#refused))
    this.#fail(connectionError(error, this.#answered))
  }

  #takeLine(line: string) {
    if (this.#settled) return
    const { content, thinking, calledTools, result } = parseChatLine(line)
    this.#calledTools ||= calledTools
    const { idleTimeoutMs } = this.#parts.timeouts
    this.#servedAt = performance.now()
    this.#parts.served?.noteText(this.#parts.model, this.#beganAt)
    if (this.#phase === 'waiting') {
      this.#phase = 'streaming'
      this.#ahead = []
      this.#expectWithin(idleTimeoutMs)
    } else {
      // The timer is not moved for each line: it checks the deadline when it fires.
      this.#deadline = this.#servedAt + idleTimeoutMs
    }
    const parted = this.#tags.part(content)
    this.#tell(parted.content, thinking + parted.thinking)
    if (result) this.#finish(this.#calledTools ? { ...result, calledTools: true } : result)
  }

  #tell(content: string, thinking: string) {
    if (content !== '' || thinking !== '') this.#parts.onDelta(content, thinking)
  }

  /** Passes on what was held back as the possible beginning of a tag. */
  #tellHeld() {
    const { content, thinking } = this.#tags.end()
    this.#tell(content, thinking)
  }

  #takeErrorBody(refused: Refused, chunk: Buffer) {
    refused.bytes += chunk.length
    if (refused.bytes > errorBodyBytes) return this.#fail(this.#refusal(refused))
    refused.body.push(chunk)
  }

  #refusal({ status, body }: Refused) {
    return refusal(status, Buffer.concat(body))
  }

  /** Waits a moment for the end of the body, so that the connection can be used again. */
  #finish(result: ChatResult) {
    this.#tellHeld()
    if (!this.#settle()) return
    this.#resolve(result)
    this.#expectWithin(drainMs)
  }

  #fail(error: unknown) {
    if (!this.#settle()) return
    // The next call's time limit begins now, unless Ollama has served none at all.
    if (!isTimeout(error)) {
      this.#servedAt = performance.now()
      this.#parts.served?.note(this.#parts.model, this.#beganAt)
    }
    try {
      this.#tellHeld()
      this.#reject(error)
    } catch (listenerError) {
      this.#reject(listenerError)
    }
    this.#parts.disconnect()
  }

  #onAbort = () => this.#fail(this.#parts.signal.reason)

  #settle(): boolean {
    if (this.#settled) return false
    this.#settled = true
    this.#ahead = []
    this.#disarm()
    this.#parts.signal.removeEventListener('abort', this.#onAbort)
    return true
  }

  #expectWithin(ms: number, since = performance.now()) {
    this.#deadline = since + ms
    this.#arm()
  }

  #arm() {
    this.#disarm()
    this.#timer = setTimeout(this.#onTimer, Math.max(1, this.#deadline - performance.now())).unref()
  }

  #disarm() {
    clearTimeout(this.#timer)
    clearImmediate(this.#lastLook)
  }

  #onTimer = () => {
    if (performance.now() < this.#deadline) return this.#arm()
    // The process may have been busy or stopped: read first what has arrived.
    this.#lastLook = setImmediate(this.#onDeadline)
  }

  #onDeadline = () => {
    if (this.#phase === 'waiting' && !this.#settled) {
      // While Ollama serves an earlier call this one is not late.
      const servedAt = Math.max(this.#startedAt, ...this.#ahead.map((call) => call.servedAt))
      this.#deadline = Math.max(this.#deadline, servedAt + this.#firstTokenMs())
    }
    if (performance.now() < this.#deadline) return this.#arm()
    if (this.#settled) return this.#parts.disconnect()
    if (this.#refused) return this.#fail(this.#refusal(this.#refused))
    if (this.#phase === 'waiting' && this.#parts.served) void this.#askOthers(this.#parts.served)
    else this.#fail(this.#timeout())
  }

  /** Times a call out, unless Ollama has served another server's call meanwhile. */
  async #askOthers(served: ServedCalls) {
    const { model } = this.#parts
    const last = await served.lastOfOthers(model, this.#beganAt)
    if (this.#settled || this.#phase !== 'waiting') return
    if (last) {
      const silentMs = Date.now() - last.at
      const allowedMs = this.#firstTokenMs(this.#loads || last.isLoading)
      this.#deadline = Math.max(this.#deadline, performance.now() - silentMs + allowedMs)
    }
    if (performance.now() < this.#deadline) return this.#arm()
    this.#fail(this.#timeout())
  }

  /** The error, which names the setting that was exceeded. */
  #timeout(): AppError {
    const { connectTimeoutMs, idleTimeoutMs } = this.#parts.timeouts
    if (this.#phase === 'connecting') {
      const message = `Ollama took no connection within ${connectTimeoutMs} ms (OLLAMA_CONNECT_TIMEOUT_MS).`
      return new AppError('MODEL_UNREACHABLE', { message })
    }
    const setting = this.#loads ? 'OLLAMA_LOAD_TIMEOUT_MS' : 'OLLAMA_FIRST_TOKEN_TIMEOUT_MS'
    const message =
      this.#phase === 'waiting'
        ? `Ollama sent nothing within ${this.#firstTokenMs()} ms (${setting}).`
        : `Ollama was silent for ${idleTimeoutMs} ms in mid-reply (OLLAMA_IDLE_TIMEOUT_MS).`
    return new AppError('MODEL_TIMEOUT', { message })
  }
}

const isTimeout = (error: unknown) => error instanceof AppError && error.code === 'MODEL_TIMEOUT'
