import { isDeepStrictEqual } from 'node:util'
import type { Message, MessageStatus } from '../../schemas/messages.js'
import type { ReplyText } from '../../web/client/reply-text.js'
import { type StandInCall, standInReply, standInThinking } from '../services/ollama-stand-in.js'
import type { Sent } from './caller.js'
import type { Trial } from './trial.js'

/** A message that a client sent, and what it was told of it. */
export interface Entry {
  content: string
  key: string | undefined
  /** What the model answers. */
  said: string
  thought: string
  messageId?: string
  replyId?: string
  /** Whether a stop was asked for. */
  stopped?: boolean
}

export interface Rules {
  /** How replies may end besides `complete`, and `stopped` where a stop was asked for. */
  mayEnd?: readonly MessageStatus[]
  /** False where several messages are sent at once. */
  inOrder?: boolean
}

const isPart = ({ said, thought }: Entry, reply: { text: string; thinking: string }) =>
  said.startsWith(reply.text) && thought.startsWith(reply.thinking)

const hasEnded = ({ status }: { status: MessageStatus }) =>
  status !== 'queued' && status !== 'streaming'

/**
 * What the clients of one chat were told, against which its stored messages are held in the end;
 * what a reply should be is asked of the stand-in, never of the server.
 */
export class Ledger {
  readonly entries: Entry[] = []
  readonly #byReply = new Map<string, Entry>()
  /** Final records that were told, by the reply's id. */
  readonly #told = new Map<string, Message>()

  constructor(
    private readonly trial: Trial,
    readonly chatId: string,
    private readonly rules: Rules = {},
  ) {}

  /** A message is about to be sent; `content` is like no other's in the chat. */
  plan(content: string, key?: string): Entry {
    const said = standInReply(content)
    const entry: Entry = { content, key, said, thought: standInThinking(content) }
    this.entries.push(entry)
    return entry
  }

  /** The server said that it is stored. */
  acknowledge(entry: Entry, { message, replyId, ended }: Exclude<Sent, { refused: object }>): void {
    this.trial.check(message.content === entry.content, 'another message was acknowledged', {
      message,
    })
    const same = entry.messageId === undefined || entry.messageId === message.id
    this.trial.check(same, 'a key gave two messages', { entry, message })
    this.trial.check(
      entry.replyId === undefined || entry.replyId === replyId,
      'a key gave two replies',
      { entry, replyId },
    )
    entry.messageId = message.id
    entry.replyId = replyId
    this.#byReply.set(replyId, entry)
    if (ended) this.tell(ended)
  }

  /** A client was told how a reply ended: nothing else may be told or stored of it later. */
  tell(record: Message): void {
    const known = this.#told.get(record.id)
    if (!hasEnded(record)) this.trial.wrong('a reply was told as over that is not', { record })
    else if (!known) this.#told.set(record.id, record)
    else if (!isDeepStrictEqual(known, record)) {
      this.trial.wrong('a reply ended twice', { known, record })
    }
  }

  /** A client's text changed; it must be the beginning of what the model says, always. */
  hear(reply: ReplyText): void {
    if (reply.record) this.tell(reply.record)
    const entry = this.#byReply.get(reply.messageId)
    if (!entry || isPart(entry, reply)) return
    this.trial.wrong('a client has what the model did not say', {
      entry,
      text: reply.text,
      thinking: reply.thinking,
    })
  }

  /** Holds the chat as it is stored against all that was told. */
  verify(stored: readonly Message[]): void {
    const { chatId } = this
    const rest = new Set(this.entries)
    let lastPlace = -1
    for (const [index, row] of stored.entries()) {
      const role = index % 2 === 0 ? 'user' : 'assistant'
      const inPlace = row.seq === index + 1 && row.role === role && row.chatId === chatId
      this.trial.check(inPlace, 'a message is out of its place', { index, row })
      if (role === 'assistant') continue
      const entry = this.entries.find(({ content }) => content === row.content)
      this.trial.check(entry !== undefined && rest.delete(entry), 'a message is stored twice', {
        row,
      })
      const { messageId = row.id } = entry
      this.trial.check(messageId === row.id, 'a message has another id than was told', {
        entry,
        row,
      })
      const place = this.entries.indexOf(entry)
      const inOrder = place > lastPlace || this.rules.inOrder === false
      this.trial.check(inOrder, 'messages are in another order than sent', { entry, row })
      lastPlace = place
      const reply = stored[index + 1]
      this.trial.check(reply !== undefined, 'a message has no reply', { row })
      this.#verifyReply(entry, reply)
    }
    for (const entry of rest) {
      this.trial.check(entry.messageId === undefined, 'an acknowledged message is gone', { entry })
    }
  }

  #verifyReply(entry: Entry, reply: Message): void {
    const { trial } = this
    const { replyId = reply.id } = entry
    this.trial.check(replyId === reply.id, 'a reply has another id than was told', { entry, reply })
    const { status } = reply
    const mayEnd = ['complete', ...(this.rules.mayEnd ?? []), ...(entry.stopped ? ['stopped'] : [])]
    this.trial.check(mayEnd.includes(status), 'a reply ended as it must not', { entry, reply })
    const told = this.#told.get(reply.id) ?? reply
    this.trial.check(isDeepStrictEqual(told, reply), 'a reply is not as it was told', {
      told,
      reply,
    })
    const text = { text: reply.content, thinking: reply.thinking ?? '' }
    const right =
      status === 'complete'
        ? text.text === entry.said && text.thinking === entry.thought
        : isPart(entry, text)
    this.trial.check(right, 'a reply is not what the model said', { entry, reply })
    trial.count(status)
  }

  /** Each call of the model had the newest of what is stored before the message, in its order. */
  verifyPrompts(stored: readonly Message[], calls: readonly StandInCall[]): void {
    for (const { body } of calls) {
      const sent = body.messages.filter(
        ({ role }, index, all) => role === 'user' || index < all.length - 1,
      )
      const place = stored.findIndex(({ content }) => content === sent.at(-1)?.content)
      if (place < 0) continue
      const before = stored.slice(0, place + 1).filter(({ content }) => content !== '')
      const expected = before.slice(-sent.length).map(({ role, content }) => ({ role, content }))
      this.trial.check(
        isDeepStrictEqual(sent, expected),
        'the model was given another history than is stored',
        { sent, expected },
      )
      this.trial.count('prompts')
    }
  }
}
