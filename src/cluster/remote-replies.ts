import type { ServerEvents } from '../../schemas/events.js'
import type { Message, MessageStart } from '../../schemas/messages.js'
import { chatChannel, serversChannel, userChannel } from '../cache/keys.js'
import type { Log } from '../logging.js'
import type { ChatEventName, UserEventName } from '../reply/chat-events.js'
import type { HeldReplies } from '../reply/held-replies.js'
import { hasEnded, type LiveReply } from '../reply/live-reply.js'
import { presentMessage } from '../reply/present.js'
import type { Store } from '../stores/store.js'
import { within } from '../within.js'
import type { Cluster } from './cluster.js'
import type { ClusterMessage } from './cluster-bus.js'
import { RemoteReply, type RemoteReplyParts } from './remote-reply.js'
import { SubscriptionRefs } from './subscription-refs.js'

/** How often the holders of followed replies are told that this server watches them. */
const watchEveryMs = 1000
/** After how long without news of a running or waiting reply the store is asked, in milliseconds. */
const silenceMs = { running: 1000, waiting: 5000 }
/** How long a stop waits for the holder, in milliseconds. */
const stopTimeoutMs = 1000

type ChatEvent = { [E in ChatEventName]: { event: E; payload: ServerEvents[E] } }[ChatEventName]
type UserEvent = { [E in UserEventName]: { event: E; payload: ServerEvents[E] } }[UserEventName]

interface Parts extends RemoteReplyParts {
  store: Pick<Store, 'listActiveReplies' | 'findMessage'>
  held: HeldReplies
  log: Log
}

/** A reading of a chat's running replies, and the next one, for those who asked after it began. */
interface Refreshing {
  done: Promise<void>
  next: Promise<void> | undefined
}

/** The replies that other servers hold, followed while somebody here listens to their chats. */
export class RemoteReplies implements Cluster {
  /** By id. */
  readonly #replies = new Map<string, RemoteReply>()
  /** The same by chat, then by id. */
  readonly #chats = new Map<string, Map<string, RemoteReply>>()
  readonly #refreshing = new Map<string, Refreshing>()
  readonly #openChats: SubscriptionRefs
  readonly #openUsers: SubscriptionRefs
  readonly #timer: NodeJS.Timeout
  #isClosed = false

  constructor(private readonly parts: Parts) {
    const { bus, chatEvents } = parts
    this.#openChats = new SubscriptionRefs(
      (chatId) => bus.hear<ChatEvent>(chatChannel(chatId), (event) => this.#hear(chatId, event)),
      (chatId) => this.#leaveChat(chatId),
    )
    this.#openUsers = new SubscriptionRefs((userId) =>
      bus.hear<UserEvent>(userChannel(userId), ({ event, payload }) =>
        chatEvents.toUser(userId, event, payload, 'peer'),
      ),
    )
    this.#timer = setInterval(() => this.#look(), watchEveryMs).unref()
  }

  listenToChat(chatId: string): Promise<() => void> {
    return this.#openChats.enter(chatId)
  }

  listenToUser(userId: string): Promise<() => void> {
    return this.#openUsers.enter(userId)
  }

  live(messageId: string): LiveReply | undefined {
    return this.#replies.get(messageId)?.reply
  }

  liveOfChat(chatId: string): LiveReply[] {
    return Array.from(this.#chats.get(chatId)?.values() ?? [], ({ reply }) => reply)
  }

  /** A reading under way may be older than what the caller has heard, so another one follows it. */
  async refresh(chatId: string): Promise<void> {
    if (!this.#openChats.isOpen(chatId)) return
    const current = this.#refreshing.get(chatId)
    if (!current) return this.#beginRefresh(chatId)
    // Its own caller handles a failure of the current reading.
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
      const remote = this.#replies.get(id)
      if (!remote) return
      this.#tellServers({ stop: id })
      await within(remote.reply.end, stopTimeoutMs)
    } finally {
      leave()
    }
  }

  dropChat(chatId: string): void {
    this.parts.bus.tell(serversChannel, { dropChat: chatId } satisfies ClusterMessage)
    for (const remote of this.#chats.get(chatId)?.values() ?? []) this.#drop(remote)
  }

  forget(messageId: string): void {
    const remote = this.#replies.get(messageId)
    if (remote) this.#drop(remote)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#timer)
    for (const remote of this.#replies.values()) this.#drop(remote)
    await Promise.allSettled(
      Array.from(this.#refreshing.values(), ({ done, next }) => next ?? done),
    )
  }

  #tellServers(message: ClusterMessage): void {
    this.parts.bus.tellLive(serversChannel, message)
  }

  #hear(chatId: string, { event, payload }: ChatEvent): void {
    if (event === 'message-start') this.#hearStart(chatId, payload)
    else if (event === 'message') this.#hearMessage(chatId, payload)
  }

  #hearStart(chatId: string, start: MessageStart): void {
    const { position, estimatedStart } = start
    const remote = this.#replies.get(start.id)
    const isWaiting = remote?.reply.row.status === 'queued'
    // The event may be older than the end that was read from the store.
    if (this.parts.held.findEnded(start.id)) return
    if (position !== undefined && remote && !isWaiting) return
    this.parts.chatEvents.toChat(chatId, 'message-start', start, 'peer')
    if (position !== undefined) {
      remote?.reply.waitAt({
        position,
        ...(estimatedStart && { estimatedStart: new Date(estimatedStart) }),
      })
    } else if (remote?.epoch !== start.epoch || isWaiting) {
      this.#refreshSoon(chatId)
    }
  }

  #hearMessage(chatId: string, message: Message): void {
    const remote = this.#replies.get(message.id)
    if (remote) this.#end(remote, message)
    // An end that was read from the store has been told already.
    else if (!this.parts.held.findEnded(message.id)) {
      this.parts.chatEvents.toChat(chatId, 'message', message, 'peer')
    }
  }

  async #refresh(chatId: string): Promise<void> {
    const { store, held } = this.parts
    if (this.#isClosed) return
    const rows = await store.listActiveReplies(chatId)
    if (this.#isClosed || !this.#openChats.isOpen(chatId)) return
    const following: Promise<void>[] = []
    for (const row of rows) {
      if (held.has(row.id) || held.findEnded(row.id)) continue
      let remote = this.#replies.get(row.id)
      if (remote?.epoch === row.epoch) remote.take(row)
      else {
        if (remote) this.#drop(remote)
        remote = this.#add(new RemoteReply(row, this.parts))
      }
      if (row.status === 'streaming') following.push(this.#follow(remote))
    }
    const active = new Set(rows.map((row) => row.id))
    for (const { reply } of [...(this.#chats.get(chatId)?.values() ?? [])]) {
      if (active.has(reply.id)) continue
      const found = await store.findMessage(reply.userId, chatId, reply.id)
      const remote = this.#replies.get(reply.id)
      if (!remote || (found && !hasEnded(found))) continue
      if (found) this.#end(remote, presentMessage(found))
      else this.#drop(remote)
    }
    await Promise.all(following)
  }

  async #follow(remote: RemoteReply): Promise<void> {
    this.#tellServers({ watch: remote.reply.id })
    await remote.follow()
  }

  /** Has the holders go on sending frames, and asks the store about silent replies. */
  #look(): void {
    const now = Date.now()
    for (const [chatId, ofChat] of this.#chats) {
      let isSilent = false
      for (const { reply, heardAt } of ofChat.values()) {
        const isRunning = reply.row.status === 'streaming'
        if (isRunning) this.#tellServers({ watch: reply.id })
        isSilent ||= now - heardAt > (isRunning ? silenceMs.running : silenceMs.waiting)
      }
      if (isSilent) this.#refreshSoon(chatId)
    }
  }

  #refreshSoon(chatId: string): void {
    this.refresh(chatId).catch((error: unknown) =>
      this.parts.log.warn(
        { err: error, chatId },
        'replies of other servers could not be read from the store; trying again in 1 s',
      ),
    )
  }

  #add(remote: RemoteReply): RemoteReply {
    const { id, chatId } = remote.reply
    const ofChat = this.#chats.get(chatId) ?? new Map<string, RemoteReply>()
    this.#chats.set(chatId, ofChat.set(id, remote))
    this.#replies.set(id, remote)
    return remote
  }

  #end(remote: RemoteReply, message: Message): void {
    this.#remove(remote)
    remote.end(message)
    this.parts.held.noteEnded(remote.reply.row)
  }

  #remove({ reply: { id, chatId } }: RemoteReply): void {
    this.#replies.delete(id)
    const ofChat = this.#chats.get(chatId)
    ofChat?.delete(id)
    if (ofChat?.size === 0) this.#chats.delete(chatId)
  }

  #drop(remote: RemoteReply): void {
    this.#remove(remote)
    remote.lose()
  }

  #leaveChat(chatId: string): void {
    for (const remote of [...(this.#chats.get(chatId)?.values() ?? [])]) this.#drop(remote)
  }
}
