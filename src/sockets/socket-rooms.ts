import type { ServerEvents } from '../../schemas/events.js'
import type { Cluster } from '../cluster/cluster.js'
import type { ChatEventName, ChatEventsListener, UserEventName } from '../reply/chat-events.js'
import type { ChatServer, ChatSocket } from './chat-socket.js'
import { EventSender } from './event-sender.js'
import { type LiveReplies, SlowSocket } from './slow-socket.js'

const chatRoom = (chatId: string) => `chat:${chatId}`
const userRoom = (userId: string) => `user:${userId}`

/** How often slow sockets are looked at, in milliseconds. */
const pumpEveryMs = 20

type Listening = Map<string, Promise<() => void>>

/**
 * The sockets of this server as listeners of the hub. A socket that reads too slowly is taken out
 * of its rooms and served by a SlowSocket until it has caught up, so that nobody waits for it and it
 * costs a bounded amount.
 */
export class SocketRooms implements ChatEventsListener {
  readonly #slowSockets = new Map<string, SlowSocket>()
  /** What each socket has this server listen to at others, with the ways to stop. */
  readonly #listening = new Map<string, Listening>()
  readonly #sender = new EventSender()
  #pump: NodeJS.Timeout | undefined

  constructor(
    private readonly io: ChatServer,
    private readonly replies: LiveReplies,
    private readonly cluster: Pick<Cluster, 'listenToChat' | 'listenToUser'>,
  ) {}

  /** Begins to tell a socket what concerns its user. */
  admit(socket: ChatSocket): void {
    const room = userRoom(socket.data.userId)
    void socket.join(room)
    void this.#keep(socket, room, this.cluster.listenToUser(socket.data.userId))
  }

  /** A socket is gone. */
  forget(socket: ChatSocket): void {
    this.#slowSockets.delete(socket.id)
    const listening = this.#listening.get(socket.id)
    this.#listening.delete(socket.id)
    for (const room of listening?.keys() ?? []) stopListening(listening, room)
  }

  /** Resolves when this server hears what others say in a chat that a socket is about to join. */
  async listen(socket: ChatSocket, chatId: string): Promise<void> {
    if (!socket.connected) return
    const room = chatRoom(chatId)
    const known = this.#listening.get(socket.id)?.get(room)
    await (known ?? this.#keep(socket, room, this.cluster.listenToChat(chatId)))
  }

  #keep(socket: ChatSocket, room: string, entered: Promise<() => void> | undefined) {
    if (!entered) return
    const listening: Listening = this.#listening.get(socket.id) ?? new Map()
    this.#listening.set(socket.id, listening.set(room, entered))
    return entered
  }

  /** Lets a socket hear a chat from now on. */
  join(socket: ChatSocket, chatId: string): void {
    const slowSocket = this.#slowSockets.get(socket.id)
    if (slowSocket) slowSocket.join(chatId)
    else void socket.join(chatRoom(chatId))
  }

  leave(socket: ChatSocket, chatId: string): void {
    this.#slowSockets.get(socket.id)?.leave(chatId)
    const room = chatRoom(chatId)
    void socket.leave(room)
    stopListening(this.#listening.get(socket.id), room)
  }

  /** Answers a socket, once it has read what it was sent before: who asks must also read. */
  answer(socket: ChatSocket, give: () => void): void {
    const slowSocket = this.#slowSockets.get(socket.id)
    if (slowSocket) slowSocket.oweAnswer(give)
    else {
      give()
      if (SlowSocket.isBehind(socket)) this.#setAside(socket)
    }
  }

  toChat<E extends ChatEventName>(chatId: string, event: E, payload: ServerEvents[E]): void {
    for (const slowSocket of this.#slowSockets.values()) slowSocket.hear(chatId, event, payload)
    this.#tell(chatRoom(chatId), event, payload)
  }

  toUser<E extends UserEventName>(userId: string, event: E, payload: ServerEvents[E]): void {
    for (const slowSocket of this.#slowSockets.values()) {
      if (slowSocket.socket.data.userId === userId) slowSocket.owe(event, payload)
    }
    this.#tell(userRoom(userId), event, payload)
    if (event === 'chat-deleted' && 'chatId' in payload) {
      this.#closeRoom(userId, payload.chatId)
    }
  }

  /** A chat is gone: nobody is in its room any more, nor does this server listen for its sake. */
  #closeRoom(userId: string, chatId: string): void {
    const { adapter, sockets } = this.io.sockets
    const ids = [...(adapter.rooms.get(userRoom(userId)) ?? []), ...this.#slowSockets.keys()]
    for (const id of ids) {
      const socket = sockets.get(id)
      if (socket?.data.userId === userId) this.leave(socket, chatId)
    }
  }

  #tell<E extends keyof ServerEvents>(room: string, event: E, payload: ServerEvents[E]): void {
    const members = this.io.sockets.adapter.rooms.get(room)
    if (!members) return
    this.#sender.sendToAll(members, this.io.sockets.sockets, [event, payload], this.#onWaiting)
  }

  readonly #onWaiting = (socket: ChatSocket) => {
    if (SlowSocket.isBehind(socket)) this.#setAside(socket)
  }

  #setAside(socket: ChatSocket): void {
    const chats: string[] = []
    for (const room of socket.rooms) {
      if (room.startsWith('chat:')) chats.push(room.slice('chat:'.length))
    }
    for (const chatId of chats) void socket.leave(chatRoom(chatId))
    void socket.leave(userRoom(socket.data.userId))
    this.#slowSockets.set(socket.id, new SlowSocket(socket, chats, this.replies, this.#sender))
    this.#pump ??= setInterval(() => this.#serveLaggards(), pumpEveryMs).unref()
  }

  #serveLaggards(): void {
    for (const slowSocket of this.#slowSockets.values()) {
      if (slowSocket.serve() === 'behind') continue
      const { socket } = slowSocket
      this.#slowSockets.delete(socket.id)
      void socket.join([userRoom(socket.data.userId), ...slowSocket.chats.map(chatRoom)])
    }
    if (this.#slowSockets.size > 0) return
    clearInterval(this.#pump)
    this.#pump = undefined
  }

  close(): void {
    clearInterval(this.#pump)
    this.#slowSockets.clear()
  }
}

function stopListening(listening: Listening | undefined, room: string): void {
  const entered = listening?.get(room)
  listening?.delete(room)
  void entered?.then((leave) => leave())
}
