import type { ServerEvents } from '../../schemas/events.js'
import type { Message, MessageStart } from '../../schemas/messages.js'
import { chatChannel, serversChannel, userChannel } from '../cache/keys.js'
import type { ChatEventName, UserEventName } from '../reply/chat-events.js'
import type { LiveReply } from '../reply/live-reply.js'
import { presentMessage } from '../reply/present.js'
import type { RecentlyEnded } from '../reply/recently-ended.js'
import { hasEnded } from '../reply/reply-state.js'
import type { Store } from '../stores/store.js'
import { within } from '../within.js'
import type { Cluster } from './cluster.js'
import { RemoteReply, type RemoteReplyParts } from './remote-reply.js'
import { Listening } from './subscription-refs.js'

/** How often the holders of followed replies are told that somebody listens. */
const watchEveryMs = 1000
/** After how long without news the store is asked about a reply that runs, or that waits. */
const silenceMs = { running: 1000, waiting: 5000 }
/** How long a stop waits for the holder. */
const stopTimeoutMs = 1000

/** What servers ask of each other. */
export type ClusterMessage =
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

interface RemoteRepliesParts extends RemoteReplyParts {
  store: Store
  /** The replies that this server holds itself. */
  held: ReadonlyMap<string, LiveReply>
  recentlyEnded: RecentlyEnded
  warnings: Log
}

/** One reading of a chat's running replies, and the one that follows it when it is asked for. */
interface Refreshing {
  done: Promise<void>
  next: Promise<void> | undefined
}

/** The replies that other servers hold, followed while somebody here listens to their chats. */
export class RemoteReplies implements Cluster {
  /** By chat, then by reply. */
  readonly #chats = new Map<string, Map<string, RemoteReply>>()
  readonly #remoteReplies = new Map<string, RemoteReply>()
  readonly #refreshing = new Map<string, Refreshing>()
  readonly #chatListening: Listening
  readonly #userListening: Listening
  readonly #timer: NodeJS.Timeout
  #closed = false

  constructor(private readonly parts: RemoteRepliesParts) {
    const { bus, chatEvents } = parts
    this.#chatListening = new Listening(
      (chatId) => bus.hear<ChatNews>(chatChannel(chatId), (news) => this.#hear(chatId, news)),
      (chatId) => this.#leaveChat(chatId),
    )
    this.#userListening = new Listening((userId) =>
      bus.hear<UserNews>(userChannel(userId), ({ event, payload }) =>
        chatEvents.toUser(userId, event, payload, 'peer'),
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
    return this.#remoteReplies.get(messageId)?.reply
  }

  liveOfChat(chatId: string): LiveReply[] {
    return Array.from(this.#chats.get(chatId)?.values() ?? [], (remoteReply) => remoteReply.reply)
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
      const remoteReply = this.#remoteReplies.get(id)
      if (!remoteReply) return
      this.#tellServers({ stop: id })
      await within(remoteReply.reply.end, stopTimeoutMs)
    } finally {
      leave()
    }
  }

  dropChat(chatId: string): void {
    this.parts.bus.tell(serversChannel, { dropChat: chatId } satisfies ClusterMessage)
    for (const remoteReply of this.#chats.get(chatId)?.values() ?? []) this.#drop(remoteReply)
  }

  claimed(messageId: string): void {
    const remoteReply = this.#remoteReplies.get(messageId)
    if (remoteReply) this.#drop(remoteReply)
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    for (const remoteReply of this.#remoteReplies.values()) this.#drop(remoteReply)
    await Promise.allSettled(
      Array.from(this.#refreshing.values(), ({ done, next }) => next ?? done),
    )
  }

  #tellServers(news: ClusterMessage): void {
    this.parts.bus.tellLive(serversChannel, news)
  }

  #hear(chatId: string, { event, payload }: ChatNews): void {
    if (event === 'message-start') this.#hearStart(chatId, payload)
    else if (event === 'message') this.#hearMessage(chatId, payload)
  }

  #hearStart(chatId: string, start: MessageStart): void {
    const { position, estimatedStart } = start
    const remoteReply = this.#remoteReplies.get(start.id)
    const isWaiting = remoteReply?.reply.row.status === 'queued'
    // News may come after the store was read, in which all this is over.
    if (this.parts.recentlyEnded.find(start.id)) return
    if (position !== undefined && remoteReply && !isWaiting) return
    this.parts.chatEvents.toChat(chatId, 'message-start', start, 'peer')
    if (position !== undefined) {
      remoteReply?.reply.waitAt({
        position,
        ...(estimatedStart && { estimatedStart: new Date(estimatedStart) }),
      })
    } else if (remoteReply?.epoch !== start.epoch || isWaiting) {
      this.#refreshSoon(chatId)
    }
  }

  #hearMessage(chatId: string, message: Message): void {
    const remoteReply = this.#remoteReplies.get(message.id)
    if (remoteReply) this.#end(remoteReply, message)
    // News may come after the end was read from the store.
    else if (!this.parts.recentlyEnded.find(message.id)) {
      this.parts.chatEvents.toChat(chatId, 'message', message, 'peer')
    }
  }

  async #refresh(chatId: string): Promise<void> {
    const { store, held, recentlyEnded } = this.parts
    if (this.#closed) return
    const rows = await store.listActiveReplies(chatId)
    if (this.#closed || !this.#chatListening.isOpen(chatId)) return
    const following: Promise<void>[] = []
    for (const row of rows) {
      if (held.has(row.id) || recentlyEnded.find(row.id)) continue
      let remoteReply = this.#remoteReplies.get(row.id)
      if (remoteReply?.epoch === row.epoch) remoteReply.take(row)
      else {
        if (remoteReply) this.#drop(remoteReply)
        remoteReply = this.#add(new RemoteReply(row, this.parts))
      }
      if (row.status === 'streaming') following.push(this.#follow(remoteReply))
    }
    const active = new Set(rows.map((row) => row.id))
    for (const { reply } of [...(this.#chats.get(chatId)?.values() ?? [])]) {
      if (active.has(reply.id)) continue
      const found = await store.findMessage(reply.userId, chatId, reply.id)
      const remoteReply = this.#remoteReplies.get(reply.id)
      if (!remoteReply || (found && !hasEnded(found))) continue
      if (found) this.#end(remoteReply, presentMessage(found))
      else this.#drop(remoteReply)
    }
    await Promise.all(following)
  }

  async #follow(remoteReply: RemoteReply): Promise<void> {
    this.#tellServers({ watch: remoteReply.reply.id })
    await remoteReply.follow()
  }

  /** Keeps the holders telling, and asks the store about replies of which nothing is heard. */
  #look(): void {
    const now = Date.now()
    for (const [chatId, remoteReplies] of this.#chats) {
      let isSilent = false
      for (const { reply, heardAt } of remoteReplies.values()) {
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

  #add(remoteReply: RemoteReply): RemoteReply {
    const { id, chatId } = remoteReply.reply
    const remoteReplies = this.#chats.get(chatId) ?? new Map<string, RemoteReply>()
    this.#chats.set(chatId, remoteReplies.set(id, remoteReply))
    this.#remoteReplies.set(id, remoteReply)
    return remoteReply
  }

  #end(remoteReply: RemoteReply, message: Message): void {
    this.#forget(remoteReply)
    remoteReply.end(message)
    this.parts.recentlyEnded.note(remoteReply.reply.row)
  }

  #forget({ reply: { id, chatId } }: RemoteReply): void {
    this.#remoteReplies.delete(id)
    const remoteReplies = this.#chats.get(chatId)
    remoteReplies?.delete(id)
    if (remoteReplies?.size === 0) this.#chats.delete(chatId)
  }

  #drop(remoteReply: RemoteReply): void {
    this.#forget(remoteReply)
    remoteReply.lose()
  }

  #leaveChat(chatId: string): void {
    for (const remoteReply of [...(this.#chats.get(chatId)?.values() ?? [])])
      this.#drop(remoteReply)
  }
}
