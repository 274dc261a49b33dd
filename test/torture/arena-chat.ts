import type { Message, MessageStatus } from '../../schemas/messages.js'
import type { Arena } from './arena.js'
import type { Sent, Way } from './caller.js'
import { type Entry, Ledger, type Rules } from './ledger.js'
import { pick } from './trial.js'

/** What the events of a chat have in common. */
type Heard = Partial<Message> & { chatId: string; messageId?: string }

/** One chat of an arena: its ledger, and what the user's socket hears of it. */
export class ArenaChat {
  readonly ledger: Ledger
  /** Each event that was heard of it, and of which message. */
  readonly heard: { event: string; id: string; status?: MessageStatus }[] = []
  readonly #listeners: Readonly<Record<string, (payload: Heard) => void>>

  constructor(
    private readonly arena: Arena,
    readonly id: string,
    rules: Rules,
  ) {
    this.ledger = new Ledger(arena.trial, id, rules)
    const events = ['message', 'message-start', 'message-chunk', 'chat-deleted']
    this.#listeners = Object.fromEntries(
      events.map((event) => [event, (payload) => this.#hear(event, payload)]),
    )
    for (const [event, listener] of Object.entries(this.#listeners)) {
      arena.caller.socket.on(event, listener)
    }
  }

  #hear(event: string, payload: Heard): void {
    if (payload.chatId !== this.id) return
    const { role, status } = payload
    this.heard.push({
      event,
      id: payload.id ?? payload.messageId ?? this.id,
      ...(role && { status }),
    })
    if (event === 'message' && role === 'assistant') this.ledger.tell(payload as Message)
  }

  /** Sends a message; what is accepted goes into the ledger. */
  async send(entry: Entry, way: Way = this.arena.anyWay()): Promise<Sent> {
    const { content, key } = entry
    const sent = await this.arena.caller.send(way, { chatId: this.id, content, key })
    if (!sent.refused) this.ledger.acknowledge(entry, sent)
    return sent
  }

  /** Sends a message that cannot be refused, without hearing its reply. */
  async begin(
    content: string,
    key = `key-${this.arena.trial.serial()}`,
  ): Promise<Entry & { messageId: string; replyId: string }> {
    const entry = this.ledger.plan(content, key)
    const sent = await this.send(entry, pick(this.arena.random, ['async', 'socket']))
    const { messageId, replyId } = entry
    this.arena.trial.check(
      !sent.refused && messageId !== undefined && replyId !== undefined,
      'a message was refused',
      { sent },
    )
    return Object.assign(entry, { messageId, replyId })
  }

  /** Asks for a stop, over REST or the socket; the answer goes into the ledger. */
  async stop(entry: Entry & { replyId: string }): Promise<Message> {
    const { caller, random } = this.arena
    entry.stopped = true
    const payload = { chatId: this.id, messageId: entry.replyId }
    if (random.chance(0.5)) {
      const { status, body } = await caller.stop(this.id, entry.replyId)
      this.arena.trial.check(status === 200, 'a stop was refused', { status, body })
      this.ledger.tell(body)
      return body
    }
    const answer = await this.arena.ask('stop-message', payload)
    this.arena.trial.check(answer.ok, 'a stop was refused', { answer })
    this.ledger.tell(answer.message)
    return answer.message
  }

  /** All replies end, each told as over exactly once, and all is stored as it was told. */
  async settle(): Promise<Message[]> {
    const { trial, caller } = this.arena
    const stored = await trial.until('every reply has ended', async () => {
      const messages = await caller.read(this.id)
      const isOver = messages.every(({ status }) => status !== 'queued' && status !== 'streaming')
      return isOver ? messages : undefined
    })
    this.ledger.verify(stored)
    for (const { id, role } of stored) {
      const told = () => this.heard.filter((one) => one.event === 'message' && one.id === id).length
      await trial.until(`the socket hears of ${id}`, () => told() > 0 || undefined)
      this.arena.trial.check(told() === 1, 'a record was told more than once', {
        id,
        role,
        told: told(),
      })
    }
    this.ledger.verifyPrompts(
      stored,
      stored.flatMap(({ role, content }) => (role === 'user' ? this.arena.callsOf(content) : [])),
    )
    this.close()
    return stored
  }

  /** Nothing is left of it, on any route, and nothing more was told of it than that it is gone. */
  async verifyGone(entries: readonly Entry[]): Promise<void> {
    await this.arena.modelIsFree(entries.map(({ content }) => content))
    const { trial, caller } = this.arena
    const path = `/api/ai/chats/${this.id}`
    const replies = entries.flatMap(({ replyId }) => (replyId === undefined ? [] : [replyId]))
    const answers = await Promise.all([
      caller.call('GET', path),
      caller.call('DELETE', path),
      ...replies.map((id) => caller.call('GET', `${path}/messages/${id}/stream`)),
      ...replies.map((id) => caller.stop(this.id, id)),
    ])
    const statuses = answers.map(({ status }) => status)
    this.arena.trial.check(
      statuses.every((status) => status === 404),
      'a deleted chat is still there',
      { statuses },
    )
    for (const { content, key } of entries) {
      // A message whose record had come back would be found by its key.
      const name = key ?? `key-${trial.serial()}`
      const sent = await caller.send(this.arena.anyWay(), { chatId: this.id, content, key: name })
      const code = sent.refused?.code
      this.arena.trial.check(code === 'CHAT_NOT_FOUND', 'a deleted chat took a message', { sent })
    }
    await trial.until('the deletion is told', () => this.#ends() || undefined)
    this.close()
  }

  #ends(): boolean {
    const at = this.heard.findIndex(({ event }) => event === 'chat-deleted')
    if (at < 0) return false
    const after = this.heard.slice(at + 1)
    this.arena.trial.check(after.length === 0, 'a deleted chat was told of', { after })
    return true
  }

  close(): void {
    for (const [event, listener] of Object.entries(this.#listeners)) {
      this.arena.caller.socket.off(event, listener)
    }
  }
}
