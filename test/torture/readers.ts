import type { Socket as TcpSocket } from 'node:net'
import type { Socket } from 'socket.io-client'
import type { Message } from '../../schemas/messages.js'
import { pause } from '../../web/client/backoff.js'
import type { Bytes } from '../../web/client/events.js'
import type { FetchLike } from '../../web/client/follow.js'
import { ReplyText } from '../../web/client/reply-text.js'
import { ChatStream } from '../../web/client/stream.js'
import { type Random, wholeAt } from '../web/client/model-reply.js'
import type { Caller, JoinAnswer } from './caller.js'
import type { Entry, Ledger } from './ledger.js'
import { between, pick, type Trial } from './trial.js'

/** Whether one more disconnection is wanted; it counts as done. */
export type Disconnect = () => boolean

/** Between two disconnections of one reader, in milliseconds. */
const quietMs = { min: 2, max: 120 }
/** Fewer than the tries after which a reader gives up. */
const maxCutsInARow = 5
/** How long a reader that stalls does not read. */
const stallMs = 400

/** A reader over a socket that is cut, closed or not read from, again and again. */
export class SocketReader {
  readonly #socket: Socket
  readonly #random: Random
  readonly #stream: ChatStream

  constructor(
    private readonly trial: Trial,
    caller: Caller,
    private readonly chatId: string,
    ledger: Ledger,
  ) {
    this.#random = trial.fork()
    this.#socket = caller.connect()
    this.#stream = new ChatStream(this.#socket, chatId, {
      onChange: (reply) => ledger.hear(reply),
      onError: (error) => trial.wrong('a join was refused', { error }),
    })
  }

  /** Resolves when it hears the chat. */
  async joined(): Promise<void> {
    const { trial, chatId } = this
    await trial.until('a socket joins', async () => {
      if (!this.#socket.connected) return undefined
      const answer = await this.#ask({ chatId })
      return answer?.ok || undefined
    })
  }

  /** Reads a reply to its end. */
  async read(entry: Entry, replyId: string, disconnect: Disconnect): Promise<ReplyText> {
    const { trial } = this
    const reply = await trial.until('a reader hears of the reply', () =>
      this.#stream.reply(replyId),
    )
    while (!reply.ended && !trial.signal.aborted) {
      await trial.pause(between(this.#random, quietMs.min, quietMs.max))
      if (reply.ended || !this.#socket.connected) continue
      if (this.#random.chance(0.2)) await this.#rejoinAnywhere(entry, replyId)
      else if (disconnect()) await this.#drop()
    }
    return reply
  }

  async #drop(): Promise<void> {
    const { engine } = this.#socket.io
    const tcp = tcpOf(this.#socket)
    const kind = pick(this.#random, ['reset', 'close', 'stall'])
    this.trial.count(kind)
    if (kind === 'stall') {
      tcp?.pause()
      await this.trial.pause(this.#random.upTo(stallMs))
      if (this.#random.chance(0.5)) tcp?.resume()
      else tcp?.resetAndDestroy()
    } else if (kind === 'reset') tcp?.resetAndDestroy()
    else engine.close()
  }

  /** What the server answers from any offset on, also behind the end and inside a pair. */
  async #rejoinAnywhere(entry: Entry, messageId: string): Promise<void> {
    const { trial, chatId } = this
    const offset = this.#random.upTo(entry.said.length + 10)
    const answer = await this.#ask({ chatId, messageId, epoch: 1, offset })
    if (!answer || (!answer.ok && answer.error.retryable)) return
    this.trial.check(answer.ok, 'a join was refused', { answer })
    const active = answer.active.find((one) => one.messageId === messageId)
    this.trial.check(active !== undefined, 'the reply that was asked for was not answered', {
      answer,
    })
    const end = active.offset + active.text.length
    const right =
      active.offset === wholeAt(entry.said, Math.min(offset, end)) &&
      active.text === entry.said.slice(active.offset, end) &&
      entry.thought.startsWith(active.thinking ?? '')
    this.trial.check(right, 'a join was answered with another text', { entry, offset, active })
    trial.count('joins at any offset')
  }

  /** Undefined when the socket closed before it was answered. */
  async #ask(payload: object): Promise<JoinAnswer | undefined> {
    try {
      return await this.#socket.timeout(5000).emitWithAck('join-chat', payload)
    } catch {
      return undefined
    }
  }

  close(): void {
    this.#stream.close()
    this.#socket.disconnect()
  }
}

/** The connection under a socket of socket.io-client, whose types hide it; none while it has none. */
function tcpOf(socket: Socket): TcpSocket | undefined {
  const { transport } = socket.io.engine as unknown as {
    transport?: { ws?: { _socket?: TcpSocket } }
  }
  return transport?.ws?._socket
}

/** Reads a reply over server-sent events, going away and coming back, at times with less than before. */
export async function readOverSse(
  trial: Trial,
  caller: Caller,
  ledger: Ledger,
  replyId: string,
  disconnect: Disconnect,
): Promise<ReplyText> {
  const random = trial.fork()
  let cutsInARow = 0
  const fetchLike: FetchLike = async (url, init) => {
    const { status, headers, body } = await fetch(url, init)
    cutsInARow = random.chance(0.5) ? 0 : (cutsInARow + 1) % maxCutsInARow
    if (!body || cutsInARow === 0) return { status, headers, body }
    return { status, headers, body: brokenOff(body, random.upTo(3000), disconnect) }
  }
  const onChange = (heard: ReplyText) => ledger.hear(heard)
  let reply = new ReplyText(replyId)
  for (;;) {
    const away = new AbortController()
    const signal = AbortSignal.any([trial.signal, away.signal])
    const leave = () => {
      if (!reply.ended && random.chance(0.8) && disconnect()) away.abort(new Error('went away'))
    }
    void pause(between(random, quietMs.min, quietMs.max), signal).then(leave)
    try {
      const reading = { reply, signal, onChange, fetchLike }
      ledger.tell(await caller.follow(ledger.chatId, replyId, reading))
      return reply
    } catch (error) {
      if (!away.signal.aborted || trial.signal.aborted) throw error
      trial.count('left')
      if (random.chance(0.4)) reply = beginningOf(reply, random)
    }
  }
}

/** The reader as it comes back with a part of the text that it had. */
function beginningOf(reply: ReplyText, random: Random): ReplyText {
  const part = new ReplyText(reply.messageId)
  const text = reply.text.slice(0, random.upTo(reply.text.length))
  const { messageId, epoch } = reply.rejoinPoint()
  part.joined({ messageId, epoch, status: 'streaming', offset: 0, text })
  return part
}

/** A body that breaks off after some bytes, wherever these end. */
async function* brokenOff(body: Bytes, bytes: number, disconnect: Disconnect) {
  let left = bytes
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    if (left < chunk.length && disconnect()) {
      yield chunk.subarray(0, left)
      throw new TypeError('terminated')
    }
    left = Math.max(left - chunk.length, 0)
    yield chunk
  }
}

/** Byte for byte, what a reader has is what is stored and what the model said. */
export function checkBytes(trial: Trial, entry: Entry, stored: Message, reply: ReplyText): void {
  const bytes = Buffer.from(entry.said)
  const right =
    bytes.equals(Buffer.from(reply.text)) &&
    bytes.equals(Buffer.from(stored.content)) &&
    entry.thought === reply.thinking
  trial.check(right, 'a reader has another text than was said', { entry, stored, reply })
  trial.count('texts compared')
}
