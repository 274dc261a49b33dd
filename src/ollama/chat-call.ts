import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'
import { AppError } from '../errors.js'
import { type ChatResult, parseChatLine } from './chat-lines.js'
import { badResponse, connectionError, refusal } from './model-errors.js'
import { createLineSplitter } from './ndjson.js'
import type { Pace } from './paced-pool.js'

export interface ChatTimeouts {
  connectTimeoutMs: number
  /** From the request to its first line. */
  firstTokenTimeoutMs: number
  /** From one line to the next; bytes that end no line don't count. */
  idleTimeoutMs: number
}

/** Hears what one line brought; either may be empty, not both. */
export type OnDelta = (content: string, thinking: string) => void
/** What arrives of a reply after its first line. */
export interface Arriving {
  /**
   * Takes what follows from the operating system, to be read in the next turn of the loop,
   * unless there is something to read. Where nothing follows yet, the next packet wakes the loop.
   */
  fetch(): void
  /** Tells as deltas what was taken. */
  read(): void
  /** Whether what follows is taken only when it is fetched. */
  readonly isHeld: boolean
}
/** Hears that something has arrived, to be fetched and read before long. */
export type OnArrival = (arriving: Arriving) => void

type Phase = 'connecting' | 'waiting' | 'streaming'

interface Refused {
  status: number
  body: Buffer[]
  bytes: number
}

/** More than this that was taken is read without being asked for, and what follows is taken at once. */
const maxUnreadBytes = 32 * 1024
const errorBodyBytes = 64 * 1024
const errorBodyMs = 5_000
/** How long the body may take to end after the reply is done, for the connection to be kept. */
const drainMs = 1_000

/**
 * One streamed call of /api/chat, as undici's handler. It settles once; whatever fails closes the
 * connection and nothing is told after it.
 *
 * The first line is told as it arrives. What follows is left with the operating system until its
 * reader fetches it, and is then parsed when it reads: of many calls together, and several lines in
 * one read, that costs about half of what they cost as they come.
 */
export class ChatCall implements Dispatcher.DispatchHandler, Arriving {
  readonly #timeouts: ChatTimeouts
  readonly #onDelta: OnDelta
  readonly #onArrival: OnArrival
  readonly #signal: AbortSignal
  /** Resolves when the reply is done; rejects with AppError, or with the signal's reason. */
  readonly outcome: Promise<ChatResult>
  readonly #lines = createLineSplitter((line) => this.#takeLine(line))
  #unread: Buffer[] = []
  #unreadBytes = 0
  readonly #startedAt = performance.now()
  #resolve: (result: ChatResult) => void = () => {}
  #reject: (reason: unknown) => void = () => {}
  #pace: Pace | undefined
  #controller: Dispatcher.DispatchController | undefined
  #phase: Phase = 'connecting'
  #settled = false
  #deadline = 0
  #timer: NodeJS.Timeout | undefined
  #lastLook: NodeJS.Immediate | undefined
  /** Whether the answer's headers came and were good. */
  #answered = false
  #refused: Refused | undefined
  #calledTools = false

  constructor(timeouts: ChatTimeouts, onDelta: OnDelta, onArrival: OnArrival, signal: AbortSignal) {
    this.#timeouts = timeouts
    this.#onDelta = onDelta
    this.#onArrival = onArrival
    this.#signal = signal
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    signal.addEventListener('abort', this.#onAbort, { once: true })
    this.#expectWithin(timeouts.connectTimeoutMs, this.#startedAt)
  }

  onPace(pace: Pace) {
    this.#pace = pace
  }

  onRequestStart(controller: Dispatcher.DispatchController) {
    this.#controller = controller
    // Given up while it was connecting: there was no connection to close then.
    if (this.#settled) return this.#disconnect()
    this.#phase = 'waiting'
    this.#expectWithin(this.#timeouts.firstTokenTimeoutMs, this.#startedAt)
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ) {
    if (status < 200 || this.#settled) return
    if (status >= 400) {
      this.#refused = { status, body: [], bytes: 0 }
      this.#expectWithin(Math.min(errorBodyMs, this.#timeouts.idleTimeoutMs))
      return
    }
    if (status !== 200) return this.#fail(badResponse(`HTTP ${status}`))
    const encoding = headers['content-encoding'] ?? 'identity'
    if (encoding !== 'identity') return this.#fail(badResponse(`${encoding} encoding`))
    const type = headers['content-type'] ?? 'application/x-ndjson'
    if (!/json/i.test(type)) {
      return this.#fail(badResponse(`content of type ${type.slice(0, 100)}`))
    }
    this.#answered = true
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer) {
    if (this.#settled) return
    if (this.#refused) return this.#takeErrorBody(this.#refused, chunk)
    this.#unreadBytes += chunk.length
    const count = this.#unread.push(chunk)
    if (this.#phase === 'waiting') {
      this.read()
    } else if (this.#unreadBytes > maxUnreadBytes) {
      this.read()
      this.#pace?.next()
    } else if (count === 1) this.#tellArrival()
  }

  readonly #tellArrival = () => this.#onArrival(this)

  fetch() {
    if (this.#unread.length === 0) this.#pace?.fetch()
  }

  get isHeld() {
    return this.#pace?.isWaiting ?? false
  }

  read() {
    const chunks = this.#unread
    this.#unread = []
    this.#unreadBytes = 0
    try {
      for (const chunk of chunks) if (!this.#settled) this.#lines.push(chunk)
    } catch (error) {
      this.#fail(error)
    }
  }

  onResponseEnd() {
    this.read()
    this.#disarm()
    if (this.#settled) return
    if (this.#refused) return this.#fail(this.#refusal(this.#refused))
    const begun = this.#phase === 'streaming'
    try {
      this.#lines.end()
    } catch (error) {
      // Half a line after good ones was cut; one that stands alone never was of the protocol.
      this.#fail(begun ? new AppError('MODEL_CUT', { cause: error }) : error)
    }
    this.#fail(new AppError('MODEL_CUT'))
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error) {
    this.read()
    this.#disarm()
    if (this.#refused) return this.#fail(this.#refusal(this.#refused))
    this.#fail(connectionError(error, this.#answered))
  }

  #takeLine(line: string) {
    if (this.#settled) return
    const { content, thinking, calledTools, result } = parseChatLine(line)
    this.#calledTools ||= calledTools
    if (this.#phase === 'waiting') {
      this.#phase = 'streaming'
      this.#pace?.hold(this.#tellArrival)
      this.#expectWithin(this.#timeouts.idleTimeoutMs)
    } else {
      // The timer is left alone: when it fires it looks at the deadline.
      this.#deadline = performance.now() + this.#timeouts.idleTimeoutMs
    }
    if (content !== '' || thinking !== '') this.#onDelta(content, thinking)
    if (result) this.#finish(this.#calledTools ? { ...result, calledTools: true } : result)
  }

  #takeErrorBody(refused: Refused, chunk: Buffer) {
    refused.bytes += chunk.length
    if (refused.bytes > errorBodyBytes) return this.#fail(this.#refusal(refused))
    refused.body.push(chunk)
  }

  #refusal({ status, body }: Refused) {
    return refusal(status, Buffer.concat(body))
  }

  /** The rest of the body is waited for a moment, so that the connection can be used again. */
  #finish(result: ChatResult) {
    if (!this.#settle()) return
    this.#resolve(result)
    this.#expectWithin(drainMs)
  }

  #fail(error: unknown) {
    if (!this.#settle()) return
    this.#reject(error)
    this.#disconnect()
  }

  #onAbort = () => {
    if (!this.#settle()) return
    this.#reject(this.#signal.reason)
    this.#disconnect()
  }

  #settle(): boolean {
    if (this.#settled) return false
    this.#settled = true
    this.#pace?.release()
    this.#disarm()
    this.#signal.removeEventListener('abort', this.#onAbort)
    return true
  }

  #disconnect() {
    this.#controller?.abort(new Error('The call of Ollama was given up'))
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
    // The process itself may have been stopped: what came meanwhile is read first.
    this.#pace?.next()
    this.#lastLook = setImmediate(this.#onDeadline)
  }

  #onDeadline = () => {
    this.read()
    if (performance.now() < this.#deadline) return this.#arm()
    if (this.#settled) return this.#disconnect()
    if (this.#refused) return this.#fail(this.#refusal(this.#refused))
    this.#fail(new AppError(this.#phase === 'connecting' ? 'MODEL_UNREACHABLE' : 'MODEL_TIMEOUT'))
  }
}
