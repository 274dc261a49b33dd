import { backoffMs, pause } from './backoff.js'
import { ReplyText } from './reply-text.js'
import type { ActiveReply, Message, MessageChunk, MessageStart, SessionEnd } from './types.js'

/** The part of socket.io-client's socket that is used. */
export interface ChatSocket {
  readonly connected: boolean
  on(event: string, listener: (payload: unknown) => void): unknown
  off(event: string, listener: (payload: unknown) => void): unknown
  timeout(ms: number): { emitWithAck(event: string, payload: object): Promise<unknown> }
}

/** The `error` of a join's answer, or the reason why the server closed the socket. */
export interface JoinFault {
  code: string
  message: string
  retryable: boolean
}

type JoinAnswer = { ok: true; active: ActiveReply[] } | { ok: false; error: JoinFault }

export interface ChatStreamHooks {
  /** A reply's text, thinking or status changed. */
  onChange: (reply: ReplyText) => void
  /** No more will come: there is no such chat, or the server closed the socket. */
  onError?: (error: JoinFault) => void
  /** A join was answered: from here on nothing that is sent to the room is missed. */
  onJoined?: () => void
}

/** A join for one reply or, before any is known, for the room. */
interface Join {
  reply?: ReplyText
  /** Frames received while the join is pending; undefined when none is pending. */
  held?: MessageChunk[] | undefined
}

type ReplyJoin = Join & { reply: ReplyText }

const ackMs = 5000
const maxHeld = 1000

/**
 * Keeps the replies of one chat up to date over a socket: joins the room, and joins again for each
 * reply when the socket reconnects or frames are missing.
 */
export class ChatStream {
  readonly chatId: string
  readonly #socket: ChatSocket
  readonly #hooks: ChatStreamHooks
  readonly #joins = new Map<string, ReplyJoin>()
  readonly #room: Join = {}
  readonly #closed = new AbortController()
  #sessionEnd: string | undefined
  readonly #listeners: Readonly<Record<string, (payload: unknown) => void>> = {
    connect: () => this.#rejoin(),
    'message-start': (payload) => this.#onStart(payload as MessageStart),
    'message-chunk': (payload) => this.#onChunk(payload as MessageChunk),
    message: (payload) => this.#onMessage(payload as Message),
    'chat-deleted': (payload) => this.#onDeleted((payload as { chatId: string }).chatId),
    'session-ended': (payload) => {
      this.#sessionEnd = (payload as { code: SessionEnd }).code
    },
    disconnect: (reason) => this.#onDisconnect(reason),
  }

  constructor(socket: ChatSocket, chatId: string, hooks: ChatStreamHooks) {
    this.#socket = socket
    this.chatId = chatId
    this.#hooks = hooks
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener)
    if (socket.connected) this.#rejoin()
  }

  /** A reply by its id, if known. */
  reply(messageId: string): ReplyText | undefined {
    return this.#joins.get(messageId)?.reply
  }

  /** Stops listening; the caller leaves the room. */
  close(): void {
    this.#closed.abort()
    for (const [event, listener] of Object.entries(this.#listeners)) {
      this.#socket.off(event, listener)
    }
  }

  /** After any other reason the socket reconnects by itself, or its owner closed it. */
  #onDisconnect(reason: unknown): void {
    if (reason !== 'io server disconnect') return
    const code = this.#sessionEnd ?? 'DISCONNECTED'
    const message = 'The server has closed the socket for good.'
    this.#hooks.onError?.({ code, message, retryable: false })
  }

  #onStart(start: MessageStart): void {
    if (start.chatId !== this.chatId) return
    const { reply } = this.#of(start.id)
    reply.start(start)
    this.#hooks.onChange(reply)
  }

  #onChunk(frame: MessageChunk): void {
    if (frame.chatId !== this.chatId) return
    const join = this.#of(frame.messageId)
    if (join.held) this.#hold(join.held, frame)
    // The answer to the room's join may have this reply. It is read after frames that came with it.
    else if (this.#room.held && join.reply.epoch === 0) this.#hold(this.#room.held, frame)
    else if (!this.#add(join.reply, frame)) this.#start(join, [frame])
  }

  #onMessage(message: Message): void {
    if (message.chatId !== this.chatId || message.role !== 'assistant') return
    const { reply } = this.#of(message.id)
    reply.message(message)
    this.#hooks.onChange(reply)
  }

  #onDeleted(chatId: string): void {
    if (chatId !== this.chatId) return
    this.close()
    this.#hooks.onError?.({ code: 'CHAT_NOT_FOUND', message: 'No such chat.', retryable: false })
  }

  #of(messageId: string): ReplyJoin {
    const known = this.#joins.get(messageId)
    if (known) return known
    const join = { reply: new ReplyText(messageId) }
    this.#joins.set(messageId, join)
    return join
  }

  #rejoin(): void {
    const open = [...this.#joins.values()].filter(({ reply }) => !reply.ended)
    for (const join of open.length > 0 ? open : [this.#room]) this.#start(join)
  }

  #hold(held: MessageChunk[], frame: MessageChunk): void {
    // Dropped frames leave a gap, which leads to another join.
    if (held.length === maxHeld) held.length = 0
    held.push(frame)
  }

  /** @returns whether the text is known to be right. */
  #add(reply: ReplyText, frame: MessageChunk): boolean {
    const outcome = reply.chunk(frame)
    if (outcome === 'appended') this.#hooks.onChange(reply)
    return outcome !== 'gap' && !reply.unsure
  }

  #start(join: Join, held: MessageChunk[] = []): void {
    if (join.held) return
    join.held = held
    // It rejects only when a hook of the caller throws.
    void this.#join(join)
  }

  /** Joins until the reply is right, the socket is gone, or the server refuses. */
  async #join(join: Join): Promise<void> {
    try {
      for (let tries = 0; this.#wanted(join); tries++) {
        if (tries > 0) await pause(backoffMs(tries - 1), this.#closed.signal)
        const answer = await this.#ask(join)
        if (answer?.ok === false && !answer.error.retryable) {
          this.#hooks.onError?.(answer.error)
          return
        }
        if (answer?.ok) {
          const isRight = this.#take(join, answer.active)
          this.#hooks.onJoined?.()
          if (isRight) return
        }
      }
    } finally {
      join.held = undefined
    }
  }

  #wanted({ reply }: Join): boolean {
    return this.#socket.connected && !this.#closed.signal.aborted && !reply?.ended
  }

  async #ask({ reply }: Join): Promise<JoinAnswer | undefined> {
    const payload = { chatId: this.chatId, ...reply?.rejoinPoint() }
    try {
      return (await this.#socket.timeout(ackMs).emitWithAck('join-chat', payload)) as JoinAnswer
    } catch {
      // No answer in time: the caller retries. Socket closed: 'connect' joins again.
      return undefined
    }
  }

  /** @returns whether the join's reply is now right. */
  #take(join: Join, active: readonly ActiveReply[]): boolean {
    for (const answer of active) {
      const { reply, held } = this.#of(answer.messageId)
      // Another reply that already has frames is left to its own join.
      if (reply !== join.reply && (held || reply.epoch > 0)) continue
      const fits = reply.joined(answer)
      this.#hooks.onChange(reply)
      if (!fits) return false
    }
    const { reply, held = [] } = join
    join.held = reply && []
    if (reply) return held.every((frame) => this.#add(reply, frame))
    for (const frame of held) this.#onChunk(frame)
    return true
  }
}
