import { ChatError } from '../../web/client/chat-error.js'
import { ReplyText } from '../../web/client/reply-text.js'
import { ChatStream } from '../../web/client/stream.js'
import type { StandInCall } from '../services/ollama-stand-in.js'
import { standInReply } from '../services/ollama-stand-in.js'
import type { Random } from '../web/client/model-reply.js'
import { type Caller, isDisconnection, storeAway, ways } from './caller.js'
import { type Entry, Ledger } from './ledger.js'
import { between, pick, type Trial } from './trial.js'

/** Replies of one chat that have not ended, at which its sender waits. */
const maxOpen = 3
const settleMs = 60_000
const maxGiveUps = 5
/** Of the stand-in's tokens, about. */
const unitsPerToken = 3.5

/** One chat whose user goes on sending and reading while the server dies. */
export class Conversation {
  readonly #random: Random
  readonly #ledger: Ledger
  readonly #stream: ChatStream
  /** Whoever reads a reply over SSE until it ends. */
  readonly #readers: Promise<unknown>[] = []
  readonly #open = new Set<string>()

  private constructor(
    private readonly trial: Trial,
    private readonly caller: Caller,
    private readonly chatId: string,
  ) {
    this.#random = trial.fork()
    this.#ledger = new Ledger(trial, chatId, { mayEnd: ['interrupted'] })
    this.#stream = new ChatStream(caller.socket, chatId, {
      onChange: (reply) => {
        this.#ledger.hear(reply)
        if (reply.ended) this.#open.delete(reply.messageId)
      },
      onError: (error) => trial.wrong('a join was refused', { error }),
    })
    trial.teardown(() => this.#stream.close())
  }

  static async begin(trial: Trial, caller: Caller): Promise<Conversation> {
    return new Conversation(trial, caller, await caller.newChat())
  }

  /** Sends one message after the other, and reads and stops some of the replies. */
  async run(goesOn: () => boolean): Promise<void> {
    const { trial } = this
    while (goesOn()) {
      const entry = this.#plan()
      await this.#deliver(entry)
      trial.count(entry.replyId ? 'acknowledged' : 'unacknowledged')
      if (entry.replyId) this.#read(entry, entry.replyId)
      while (goesOn() && this.#open.size >= maxOpen) await trial.pause(20)
      await trial.pause(this.#random.upTo(200))
    }
  }

  #plan(): Entry {
    const { trial } = this
    const random = this.#random
    const serial = trial.serial()
    const length = pick(random, [1, 200, 1000, 3000])
    const thinking = pick(random, [0, 0, 100, 400])
    const seconds = pick(random, [0, 0.3, 1, 2.5])
    const tokens = (length + thinking) / unitsPerToken
    const rate = seconds === 0 ? 0 : Math.ceil(tokens / seconds)
    const noise = standInReply(`len=${random.upTo(80)} seed=${serial}`)
    const content = `n=${serial} len=${length} rate=${rate} think=${thinking} ${noise}`
    return this.#ledger.plan(content, random.chance(0.8) ? `key-${serial}` : undefined)
  }

  /** Sends until it is acknowledged; a message without a key is sent once, whatever comes of it. */
  async #deliver(entry: Entry): Promise<void> {
    const { trial, chatId } = this
    const { content, key } = entry
    do {
      const way = pick(this.#random, ways)
      try {
        const sent = await this.caller.send(way, { chatId, content, key })
        trial.note('clients', `${way} ${key} ${content.slice(0, 40)} ${JSON.stringify(sent)}`)
        if (!sent.refused) return this.#ledger.acknowledge(entry, sent)
        // The reply, of which this way tells alone, ended so.
        const { refused } = sent
        const toldOfReply = way === 'whole' && refused.code === 'REPLY_INTERRUPTED'
        const toldToRetry = refused.code === 'SHUTTING_DOWN' || refused.code === storeAway
        const rightly = toldOfReply || toldToRetry
        this.trial.check(rightly, 'a message was refused', { way, content, refused })
        if (toldToRetry) await this.#again()
      } catch (error) {
        if (!isDisconnection(error)) throw error
        trial.note('clients', `${way} ${key} ${content.slice(0, 40)} ${error}`)
        await this.#again()
      }
    } while (key !== undefined && !trial.signal.aborted)
  }

  async #again(): Promise<void> {
    this.trial.count('cut tries')
    await this.trial.pause(between(this.#random, 5, 50))
  }

  #read(entry: Entry, replyId: string): void {
    if (!this.#stream.reply(replyId)?.ended) this.#open.add(replyId)
    if (this.#random.chance(0.3)) this.#readers.push(this.trial.also(this.#readOverSse(replyId)))
    if (this.#random.chance(0.15)) this.#readers.push(this.trial.also(this.#stop(entry, replyId)))
  }

  /** A reader whose client gives up among too many kills begins again from what it has. */
  async #readOverSse(replyId: string): Promise<void> {
    const reply = new ReplyText(replyId)
    const onChange = this.#ledger.hear.bind(this.#ledger)
    for (let giveUps = 0; ; giveUps += 1) {
      try {
        const record = await this.caller.follow(this.chatId, replyId, { reply, onChange })
        this.trial.count('read over SSE')
        return this.#ledger.tell(record)
      } catch (error) {
        const isRefused = error instanceof ChatError && !error.retryable
        const refused = isRefused || giveUps === maxGiveUps
        if (refused || this.trial.signal.aborted) throw error
        this.trial.count('gave up')
      }
    }
  }

  async #stop(entry: Entry, replyId: string): Promise<void> {
    const { trial } = this
    await trial.pause(this.#random.upTo(1000))
    entry.stopped = true
    for (;;) {
      try {
        const { status, body } = await this.caller.stop(this.chatId, replyId)
        this.trial.check(status === 200, 'a stop was refused', { status, body })
        trial.count('stops')
        return this.#ledger.tell(body)
      } catch (error) {
        if (!isDisconnection(error)) throw error
        await trial.pause(20)
      }
    }
  }

  /** Once the server lives: every reply ends, and all is as it was told. */
  async settle(calls: readonly StandInCall[]): Promise<void> {
    const { trial, caller, chatId } = this
    await Promise.all(this.#readers)
    const stored = await trial.until(
      'every reply has ended',
      async () => {
        const messages = await caller.read(chatId)
        const ended = messages.every(({ status }) => status !== 'queued' && status !== 'streaming')
        return ended ? messages : undefined
      },
      settleMs,
      200,
    )
    this.#ledger.verify(stored)
    this.#ledger.verifyPrompts(stored, calls)
    for (const { id, content, thinking = '' } of stored) {
      const reply = this.#stream.reply(id)
      if (!reply) continue
      await trial.until('a reader over the socket hears the end', () => reply.ended || undefined)
      const right = reply.text === content && reply.thinking === thinking
      this.trial.check(right, 'a reader has another text than is stored', {
        reply,
        content,
        thinking,
      })
      trial.count('read over the socket')
    }
    this.#stream.close()
  }
}
