/** One reply, by the rules of docs/protocol.md: offsets are UTF-16 lengths, which are JavaScript's own. */
class Reply {
  text = ''
  thinking = ''
  status = 'queued'
  position = null
  /** The run that the whole text belongs to; 0 before the first frame. */
  epoch = 0
  /** A join waits for its answer, which will have what comes meanwhile. */
  joining = false

  constructor(rejoin) {
    this.rejoin = rejoin
  }

  get ended() {
    return this.status !== 'queued' && this.status !== 'streaming'
  }

  onChunk({ epoch, offset, delta, thinking }) {
    const known = thinking ? this.thinking : this.text
    if (this.ended || this.joining || epoch < this.epoch) return
    // Frames were lost.
    if (offset > known.length) return this.rejoin(this)
    const isNewRun = epoch > this.epoch
    const next = isNewRun
      ? known.slice(0, offset) + delta
      : known + delta.slice(known.length - offset)
    if (thinking) this.thinking = next
    else this.text = next
    this.status = 'streaming'
    this.position = null
    // The new run may have begun before this frame.
    if (isNewRun && this.epoch > 0) this.rejoin(this)
    else this.epoch = epoch
  }

  onActive({ epoch, offset, text, thinking = '', status, position = null }) {
    if (this.ended) return
    // Whole runs were missed: nothing of the old text is sure.
    if (offset > this.text.length || (offset > 0 && epoch > this.epoch + 1)) {
      this.text = this.thinking = ''
      this.epoch = 0
      return this.rejoin(this)
    }
    this.text = this.text.slice(0, offset) + text
    Object.assign(this, { thinking, epoch, status, position })
  }

  onStart({ epoch, status, position = null }) {
    if (!this.ended && epoch >= this.epoch) Object.assign(this, { status, position })
  }

  onMessage({ content, thinking = '', status }) {
    Object.assign(this, { text: content, thinking, status, position: null })
  }
}

/** Keeps the replies of one chat right over a socket that may break. */
export class ChatFollower {
  replies = new Map()
  #connection = 0
  #isRefused = false

  /**
   * @param join sends `join-chat` with a payload; resolves with its acknowledgement, or rejects.
   * @param show is called with a reply and its id whenever it changed.
   * @param refuse is told of an error after which nothing comes any more.
   */
  constructor(chatId, { join, show, refuse }) {
    Object.assign(this, { chatId, join, show, refuse })
  }

  onConnect() {
    if (this.#isRefused) return
    const open = [...this.replies].filter(([, reply]) => !reply.ended)
    for (const [id, reply] of open) this.#rejoin(id, reply)
    if (open.length === 0) this.#ask({ chatId: this.chatId })
  }

  onDisconnect() {
    // Answers that have not come never will.
    this.#connection += 1
    for (const reply of this.replies.values()) reply.joining = false
  }

  onEvent(name, payload) {
    if (this.#isRefused || payload?.chatId !== this.chatId) return
    const id = payload.messageId ?? payload.id
    if (name === 'message-chunk') this.#reply(id).onChunk(payload)
    else if (name === 'message-start') this.#reply(id).onStart(payload)
    else if (name === 'message' && payload.role === 'assistant') this.#reply(id).onMessage(payload)
    else if (name === 'chat-deleted') {
      this.#refused({ code: 'CHAT_NOT_FOUND', message: 'The chat was deleted.' })
    } else return
    if (!this.#isRefused) this.show(this.#reply(id), id)
  }

  #reply(id) {
    if (!this.replies.has(id)) {
      this.replies.set(id, new Reply((reply) => this.#rejoin(id, reply)))
    }
    return this.replies.get(id)
  }

  #rejoin(messageId, reply) {
    reply.joining = true
    const { chatId } = this
    this.#ask({ chatId, messageId, epoch: Math.max(reply.epoch, 1), offset: reply.text.length })
  }

  async #ask(payload) {
    const connection = this.#connection
    const answer = await this.join(payload).catch(() => undefined)
    if (connection !== this.#connection) return
    if (answer?.ok) return this.#joined(payload, answer.active)
    if (answer && !answer.error.retryable) return this.#refused(answer.error)
    await new Promise((resolve) => setTimeout(resolve, 500))
    if (connection === this.#connection) this.#ask(payload)
  }

  #joined({ messageId }, active) {
    if (messageId) this.#reply(messageId).joining = false
    for (const answer of active) {
      // Another reply that has text already is left to its own join.
      if (this.replies.has(answer.messageId) && answer.messageId !== messageId) continue
      const reply = this.#reply(answer.messageId)
      reply.onActive(answer)
      this.show(reply, answer.messageId)
    }
  }

  #refused(error) {
    this.#isRefused = true
    this.refuse(error)
  }
}
