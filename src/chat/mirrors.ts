import type { ServerEvents } from '../../schemas/events.js'
import type { Message, MessageStart } from '../../schemas/messages.js'
import { chatChannel, serversChannel, userChannel } from '../cache/keys.js'
import type { Store } from '../stores/store.js'
import { within } from '../within.js'
import type { EndedLately } from './ended-lately.js'
import type { ChatEventName, UserEventName } from './hub.js'
import { Listening } from './listening.js'
import type { LiveReply } from './live-reply.js'
import { Mirror, type MirrorParts } from './mirror.js'
import type { OtherServers } from './other-servers.js'
import { presentMessage } from './present.js'
import { hasEnded } from './reply-state.js'

/** How often the holders of followed replies are told that somebody listens. */
const watchEveryMs = 1000
/** After how long without news the store is asked about a reply that runs, or that waits. */
const silenceMs = { running: 1000, waiting: 5000 }
/** How long a stop waits for the holder. */
const stopTimeoutMs = 1000

/** What servers ask of each other. */
export type ServerNews =
  | { watch: string }
  | { stop: string }
  | { dropChat: string }
  /** A place at Ollama. */
  | { freed: true }
  /** A server that goes down released what it held. */
  | { handedOver: true }

type ChatNews = { [E in ChatEventName]: { event: E; payload: ServerEvents[E] } }[ChatEventName]
type UserNews = { [E in UserEventName]: { event: E; payload: ServerEvents[E] } }[UserEventName]

interface Log {
  warn(details: object, message: string): void
}

interface MirrorsParts extends MirrorParts {
  store: Store
  /** The replies that this server holds itself. */
  held: ReadonlyMap<string, LiveReply>
  endedLately: EndedLately
  warnings: Log
}

/** One reading of a chat's running replies, and the one that follows it when it is asked for. */
interface Refreshing {
  done: Promise<void>
  next: Promise<void> | undefined
}

/** The replies that other servers hold, followed while somebody here listens to their chats. */
export class Mirrors implements OtherServers {
  /** By chat, then by reply. */
  readonly #chats = new Map<string, Map<string, Mirror>>()
  readonly #mirrors = new Map<string, Mirror>()
  readonly #refreshing = new Map<string, Refreshing>()
  readonly #chatListening: Listening
  readonly #userListening: Listening
  readonly #timer: NodeJS.Timeout
  #closed = false

  constructor(private readonly parts: MirrorsParts) {
    const { peers, hub } = parts
    this.#chatListening = new Listening(
      (chatId) => peers.hear<ChatNews>(chatChannel(chatId), (news) => this.#hear(chatId, news)),
      (chatId) => this.#leaveChat(chatId),
    )
    this.#userListening = new Listening((userId) =>
      peers.hear<UserNews>(userChannel(userId), ({ event, payload }) =>
        hub.toUser(userId, event, payload, 'peer'),
      ),
    )
    this.#timer = setInterval(() => this.#look(), watchEveryMs).unref()
  }

  listenToChat(chatId: string): Promise<() => void> {
    return this.#chatListening.enter(chatId)
  }

  listenToUser(userId: string): Promise<() => void> {
    return this.#userListening.enter(userId)
  }

  live(messageId: string): LiveReply | undefined {
    return this.#mirrors.get(messageId)?.reply
  }

  liveOfChat(chatId: string): LiveReply[] {
    return Array.from(this.#chats.get(chatId)?.values() ?? [], (mirror) => mirror.reply)
  }

  /** What is being read may be older than what the caller has heard: it is then read once more. */
  async refresh(chatId: string): Promise<void> {
    if (!this.#chatListening.isOpen(chatId)) return
    const current = this.#refreshing.get(chatId)
    if (!current) return this.#beginRefresh(chatId)
    // A failure of the current read is its own caller's to handle.
    current.next ??= current.done.catch(() => {}).then(() => this.#beginRefresh(chatId))
    await current.next
  }

  #beginRefresh(chatId: string): Promise<void> {
    const done = this.#refresh(chatId)
    const refreshing: Refreshing = { done, next: undefined }
    this.#refreshing.set(chatId, refreshing)
    const forget = () => {
      if (!refreshing.next) this.#refreshing.delete(chatId)
    }
    done.then(forget, forget)
    return done
  }

  async stop({ id, chatId }: { id: string; chatId: string }): Promise<void> {
    const leave = await this.listenToChat(chatId)
    try {
      await this.refresh(chatId)
      const mirror = this.#mirrors.get(id)
      if (!mirror) return
      this.#tellServers({ stop: id })
      await within(mirror.reply.end, stopTimeoutMs)
    } finally {
      leave()
    }
  }

  dropChat(chatId: string): void {
    this.parts.peers.tell(serversChannel, { dropChat: chatId } satisfies ServerNews)
    for (const mirror of this.#chats.get(chatId)?.values() ?? []) this.#drop(mirror)
  }

  claimed(messageId: string): void {
    const mirror = this.#mirrors.get(messageId)
    if (mirror) this.#drop(mirror)
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    for (const mirror of this.#mirrors.values()) this.#drop(mirror)
    await Promise.allSettled(
      Array.from(this.#refreshing.values(), ({ done, next }) => next ?? done),
    )
  }

  #tellServers(news: ServerNews): void {
    this.parts.peers.tellLive(serversChannel, news)
  }

  #hear(chatId: string, { event, payload }: ChatNews): void {
    if (event === 'message-start') this.#hearStart(chatId, payload)
    else if (event === 'message') this.#hearMessage(chatId, payload)
  }

  #hearStart(chatId: string, start: MessageStart): void {
    const { position, estimatedStart } = start
    const mirror = this.#mirrors.get(start.id)
    const isWaiting = mirror?.reply.row.status === 'queued'
    // News may come after the store was read, in which all this is over.
    if (this.parts.endedLately.find(start.id)) return
    if (position !== undefined && mirror && !isWaiting) return
    this.parts.hub.toChat(chatId, 'message-start', start, 'peer')
    if (position !== undefined) {
      mirror?.reply.waitAt({
        position,
        ...(estimatedStart && { estimatedStart: new Date(estimatedStart) }),
      })
    } else if (mirror?.epoch !== start.epoch || isWaiting) {
      this.#refreshSoon(chatId)
    }
  }

  #hearMessage(chatId: string, message: Message): void {
    const mirror = this.#mirrors.get(message.id)
    if (mirror) this.#end(mirror, message)
    // News may come after the end was read from the store.
    else if (!this.parts.endedLately.find(message.id)) {
      this.parts.hub.toChat(chatId, 'message', message, 'peer')
    }
  }

  async #refresh(chatId: string): Promise<void> {
    const { store, held, endedLately } = this.parts
    if (this.#closed) return
    const rows = await store.listActiveReplies(chatId)
    if (this.#closed || !this.#chatListening.isOpen(chatId)) return
    const following: Promise<void>[] = []
    for (const row of rows) {
      if (held.has(row.id) || endedLately.find(row.id)) continue
      let mirror = this.#mirrors.get(row.id)
      if (mirror?.epoch === row.epoch) mirror.take(row)
      else {
        if (mirror) this.#drop(mirror)
        mirror = this.#add(new Mirror(row, this.parts))
      }
      if (row.status === 'streaming') following.push(this.#follow(mirror))
    }
    const active = new Set(rows.map((row) => row.id))
    for (const { reply } of [...(this.#chats.get(chatId)?.values() ?? [])]) {
      if (active.has(reply.id)) continue
      const found = await store.findMessage(reply.userId, chatId, reply.id)
      const mirror = this.#mirrors.get(reply.id)
      if (!mirror || (found && !hasEnded(found))) continue
      if (found) this.#end(mirror, presentMessage(found))
      else this.#drop(mirror)
    }
    await Promise.all(following)
  }

  async #follow(mirror: Mirror): Promise<void> {
    this.#tellServers({ watch: mirror.reply.id })
    await mirror.follow()
  }

  /** Keeps the holders telling, and asks the store about replies of which nothing is heard. */
  #look(): void {
    const now = Date.now()
    for (const [chatId, mirrors] of this.#chats) {
      let isSilent = false
      for (const { reply, heardAt } of mirrors.values()) {
        const isRunning = reply.row.status === 'streaming'
        if (isRunning) this.#tellServers({ watch: reply.id })
        isSilent ||= now - heardAt > (isRunning ? silenceMs.running : silenceMs.waiting)
      }
      if (isSilent) this.#refreshSoon(chatId)
    }
  }

  #refreshSoon(chatId: string): void {
    this.refresh(chatId).catch((error: unknown) =>
      this.parts.warnings.warn({ err: error, chatId }, 'replies of other servers are not heard'),
    )
  }

  #add(mirror: Mirror): Mirror {
    const { id, chatId } = mirror.reply
    const mirrors = this.#chats.get(chatId) ?? new Map<string, Mirror>()
    this.#chats.set(chatId, mirrors.set(id, mirror))
    this.#mirrors.set(id, mirror)
    return mirror
  }

  #end(mirror: Mirror, message: Message): void {
    this.#forget(mirror)
    mirror.end(message)
    this.parts.endedLately.note(mirror.reply.row)
  }

  #forget({ reply: { id, chatId } }: Mirror): void {
    this.#mirrors.delete(id)
    const mirrors = this.#chats.get(chatId)
    mirrors?.delete(id)
    if (mirrors?.size === 0) this.#chats.delete(chatId)
  }

  #drop(mirror: Mirror): void {
    this.#forget(mirror)
    mirror.lose()
  }

  #leaveChat(chatId: string): void {
    for (const mirror of [...(this.#chats.get(chatId)?.values() ?? [])]) this.#drop(mirror)
  }
}
