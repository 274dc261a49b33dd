import { io, type Socket } from 'socket.io-client'
import type { Chat, ChatWithMessages } from '../../schemas/chats.js'
import type { ApiError } from '../../schemas/common.js'
import type { ActiveReply } from '../../schemas/events.js'
import type { Message, MessageInput, Turn } from '../../schemas/messages.js'
import { readEvents } from '../../web/client/events.js'
import { type FetchLike, followReply } from '../../web/client/follow.js'
import { ReplyText } from '../../web/client/reply-text.js'
import { type Answer, api, register } from '../services/app.js'
import type { Trial } from './trial.js'

/** The ways in which a message is sent: two of REST's hear the reply too. */
export const ways = ['async', 'whole', 'events', 'socket'] as const
export type Way = (typeof ways)[number]

export interface Sending extends MessageInput {
  chatId: string
  /** The client's own name for the message; one without is tried once. */
  key?: string
}

interface Refusal {
  code: string
  status?: number
  /** The failed reply, where the message was stored. */
  replyId?: string
}

/** What a try to send brought: the message's record and its reply's id, or a refusal. */
export type Sent =
  | { message: Message; replyId: string; ended?: Message; refused?: undefined }
  | { refused: Refusal }

export type JoinAnswer =
  | { ok: true; active: ActiveReply[] }
  | { ok: false; error: { code: string; retryable: boolean } }

/** How a reply is followed: from what a client has of it, until it goes away. */
interface Reading {
  reply?: ReplyText
  signal?: AbortSignal
  onChange?: (reply: ReplyText) => void
  fetchLike?: FetchLike
}

/** The code of the one refusal after which a client asks the same again. */
export const storeAway = 'STORE_UNAVAILABLE'
const againMs = 100
const ackMs = 30_000
/** For a socket to find a server that is killed again and again. */
const connectMs = 120_000

/** Whether the connection was refused, reset or cut: the client cannot know what was done. */
export function isDisconnection(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof TypeError) return /^(fetch failed|terminated)$/.test(error.message)
  return error.message === 'socket has been disconnected'
}

/** A user with devices; their requests end with the trial. */
export class Caller {
  /** How often it was told to ask again, as the database was away. */
  retries = 0
  readonly #call: ReturnType<typeof api>
  #socket: Socket | undefined

  private constructor(
    private readonly trial: Trial,
    readonly url: string,
    readonly token: string,
  ) {
    this.#call = api(url, token)
  }

  static async register(trial: Trial, url: string): Promise<Caller> {
    for (;;) {
      try {
        return new Caller(trial, url, (await register(url)).token)
      } catch (error) {
        if (!(error instanceof Error && error.message.includes(storeAway))) throw error
        await trial.pause(againMs)
      }
    }
  }

  /** One request; asked again, as a client is told to, while the database is away. */
  readonly call: ReturnType<typeof api> = async <T>(
    ...request: Parameters<ReturnType<typeof api>>
  ) => {
    for (;;) {
      const answer = await this.#call<T>(...request)
      if ((answer.body as ApiError | undefined)?.code !== storeAway) return answer
      await this.#pauseAgain()
    }
  }

  async #pauseAgain(): Promise<void> {
    this.retries += 1
    this.trial.count('told to retry')
    await this.trial.pause(againMs)
  }

  async newChat(): Promise<string> {
    const { status, body } = await this.call<Chat>('POST', '/api/ai/chats', {})
    this.trial.check(status === 201, 'no chat was made', { status, body })
    return body.id
  }

  /** All messages of a chat, in order. */
  async read(chatId: string): Promise<Message[]> {
    const messages: Message[] = []
    let before = ''
    do {
      const path = `/api/ai/chats/${chatId}?limit=100${before && `&before=${before}`}`
      const { status, body } = await this.call<ChatWithMessages>('GET', path)
      this.trial.check(status === 200, 'a chat could not be read', { status, body })
      messages.unshift(...body.messages)
      before = body.nextCursor ?? ''
    } while (before)
    return messages
  }

  /** A socket that connects again by itself, whatever happens; closed with the trial. */
  connect(): Socket {
    const socket = io(this.url, {
      auth: { token: this.token },
      transports: ['websocket'],
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 100,
      timeout: 5000,
    })
    socket.on('connect_error', (error: Error & { data?: ApiError }) => {
      // Only a server's own refusal has data; after one, Socket.io leaves trying to the client.
      if (error.data?.code === storeAway) setTimeout(() => socket.connect(), againMs)
      else if (error.data) this.trial.wrong('a socket was refused', { data: error.data })
    })
    this.trial.teardown(() => socket.disconnect())
    return socket
  }

  /** Asks over the user's own socket, until the database is there. */
  async ask(event: string, payload: object) {
    for (;;) {
      const answer = await this.socket.timeout(ackMs).emitWithAck(event, payload)
      if (answer.ok || answer.error.code !== storeAway) return answer
      await this.#pauseAgain()
    }
  }

  /** The socket that this user's own events go over. */
  get socket(): Socket {
    this.#socket ??= this.connect()
    return this.#socket
  }

  /**
   * One try, or as many as it takes while the database is away, where the message has a key.
   * @throws what `isDisconnection` knows when the server goes away meanwhile.
   */
  async send(way: Way, sending: Sending): Promise<Sent> {
    for (;;) {
      const sent = await this.#send(way, sending)
      if (sent.refused?.code !== storeAway || sending.key === undefined) return sent
      await this.#pauseAgain()
    }
  }

  async #send(way: Way, sending: Sending): Promise<Sent> {
    switch (way) {
      case 'async':
        return turnOf(await this.#post(sending, { prefer: 'respond-async' }))
      case 'whole':
        return turnOf(await this.#post(sending, {}))
      case 'events':
        return this.#sendForEvents(sending)
      case 'socket':
        return this.#sendOverSocket(sending)
    }
  }

  #post({ chatId, key, ...input }: Sending, headers: Record<string, string>) {
    const path = `/api/ai/chats/${chatId}/messages`
    const named = key === undefined ? headers : { ...headers, 'idempotency-key': key }
    return this.#call<Turn & ApiError>('POST', path, input, named)
  }

  async #sendOverSocket({ key, ...input }: Sending): Promise<Sent> {
    const payload = key === undefined ? input : { ...input, clientMessageId: key }
    // Once it is connected, silence is no more a matter of when the server comes back.
    await this.trial.until('a socket connects', () => this.socket.connected || undefined, connectMs)
    const answer = await this.socket.timeout(ackMs).emitWithAck('chat-message', payload)
    if (!answer.ok) return { refused: answer.error }
    return { message: answer.message, replyId: answer.reply.id }
  }

  /** Hears the reply too, as far as the connection lasts. */
  async #sendForEvents({ chatId, key, ...input }: Sending): Promise<Sent> {
    const response = await fetch(`${this.url}/api/ai/chats/${chatId}/messages`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${this.token}`,
        'content-type': 'application/json',
        accept: 'text/event-stream',
        ...(key !== undefined && { 'idempotency-key': key }),
      },
      body: JSON.stringify(input),
      signal: this.trial.signal,
    })
    if (response.status !== 200) {
      return { refused: { ...((await response.json()) as ApiError), status: response.status } }
    }
    let first: { message: Message; replyId: string } | undefined
    try {
      for await (const { event, data, id } of readEvents(bodyOf(response))) {
        const record = JSON.parse(data)
        if (!first) first = { message: record, replyId: id.split(':')[0] ?? '' }
        else if (event === 'message') return { ...first, ended: record }
      }
      this.trial.check(first !== undefined, 'a stream ended before its first event')
      return first
    } catch (error) {
      if (first && isDisconnection(error)) return first
      throw error
    }
  }

  /** Follows a reply over server-sent events until its final record. @throws as followReply. */
  follow(chatId: string, messageId: string, reading: Reading = {}): Promise<Message> {
    const { reply = new ReplyText(messageId), signal = this.trial.signal } = reading
    const url = `${this.url}/api/ai/chats/${chatId}/messages/${messageId}/stream`
    const fetchLike = reading.fetchLike ?? fetch
    return followReply(fetchLike, url, this.token, reply, signal, reading.onChange)
  }

  /** Asks for a stop over REST. */
  stop(chatId: string, messageId: string): Promise<Answer<Message & ApiError>> {
    return this.call('POST', `/api/ai/chats/${chatId}/messages/${messageId}/stop`)
  }
}

function bodyOf({ body }: Response) {
  if (!body) throw new Error('an answer has no body')
  return body
}

function turnOf({ status, body }: Answer<Turn & ApiError>): Sent {
  if (status !== 201 && status !== 202) return { refused: { ...body, status } }
  const { message, reply } = body
  return { message, replyId: reply.id, ...(status === 201 && { ended: reply }) }
}
