import type { ServerEvents } from '../../schemas/events.js'
import type { Message, MessageChunk } from '../../schemas/messages.js'
import type { Cluster } from '../cluster/cluster.js'
import type { ChatEventName, ChatEventsListener, UserEventName } from '../reply/chat-events.js'
import type { ChatServer, ChatSocket, EventSink } from './chat-socket.js'
import { type LiveReplies, SlowSocket } from './slow-socket.js'

/** How often slow sockets are served, in milliseconds. */
const pumpEveryMs = 20

type Listening = Map<string, Promise<() => void>>

/** A room that was sent to: where to send, and who hears it. */
interface Room {
  sink: EventSink
  sockets: readonly ChatSocket[]
}

/**
 * Sends events to the rooms of this server's sockets: one of each chat, one of each user, named by
 * its id. A socket that reads too slowly leaves its rooms until a SlowSocket has caught it up.
 */
export class SocketRooms implements ChatEventsListener {
  readonly #slowSockets = new Map<string, SlowSocket>()
  /** The rooms of each socket whose events come from other servers, with the ways to stop listening. */
  readonly #listening = new Map<string, Listening>()
  /** Rooms that were sent to, until somebody joins or leaves: to look one up for each token costs more. */
  readonly #rooms = new Map<string, Room>()
  #pump: NodeJS.Timeout | undefined

  constructor(
    private readonly io: ChatServer,
    private readonly replies: LiveReplies,
    private readonly cluster: Pick<Cluster, 'listenToChat' | 'listenToUser'>,
  ) {
    const forgetRoom = (name: string) => this.#rooms.delete(name)
    io.sockets.adapter.on('join-room', forgetRoom).on('leave-room', forgetRoom)
  }

  /** Joins a new socket to its user's room. */
  admit(socket: ChatSocket): void {
    const { userId } = socket.data
    void socket.join(userId)
    void this.#keep(socket, userId, this.cluster.listenToUser(userId))
  }

  /** Forgets a socket that has disconnected. */
  forget(socket: ChatSocket): void {
    this.#slowSockets.delete(socket.id)
    const listening = this.#listening.get(socket.id)
    this.#listening.delete(socket.id)
    for (const room of listening?.keys() ?? []) stopListening(listening, room)
  }

  /** Resolves when this server receives other servers' events of a chat that a socket is about to join. */
  async listen(socket: ChatSocket, chatId: string): Promise<void> {
    if (!socket.connected) return
    const known = this.#listening.get(socket.id)?.get(chatId)
    await (known ?? this.#keep(socket, chatId, this.cluster.listenToChat(chatId)))
  }

  #keep(socket: ChatSocket, room: string, entered: Promise<() => void> | undefined) {
    if (!entered) return
    const listening: Listening = this.#listening.get(socket.id) ?? new Map()
    this.#listening.set(socket.id, listening.set(room, entered))
    return entered
  }

  /** Joins a socket to a chat's room. */
  join(socket: ChatSocket, chatId: string): void {
    const slowSocket = this.#slowSockets.get(socket.id)
    if (slowSocket) slowSocket.join(chatId)
    else void socket.join(chatId)
  }

  leave(socket: ChatSocket, chatId: string): void {
    this.#slowSockets.get(socket.id)?.leave(chatId)
    void socket.leave(chatId)
    stopListening(this.#listening.get(socket.id), chatId)
  }

  /** Answers a socket; a slow one only after it has read what it was sent before. */
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
    this.#tell(chatId, event, payload)
  }

  toUser<E extends UserEventName>(userId: string, event: E, payload: ServerEvents[E]): void {
    for (const slowSocket of this.#slowSockets.values()) {
      if (slowSocket.socket.data.userId === userId) slowSocket.owe(event, payload)
    }
    this.#tell(userId, event, payload)
    if (event === 'chat-deleted' && 'chatId' in payload) {
      this.#closeRoom(userId, payload.chatId)
    }
  }

  /** Takes everybody out of the room of a deleted chat. */
  #closeRoom(userId: string, chatId: string): void {
    const { adapter, sockets } = this.io.sockets
    const ids = [...(adapter.rooms.get(userId) ?? []), ...this.#slowSockets.keys()]
    for (const id of ids) {
      const socket = sockets.get(id)
      if (socket?.data.userId === userId) this.leave(socket, chatId)
    }
  }

  /** A room, unless nobody is in it. */
  #roomOf(name: string): Room | undefined {
    const known = this.#rooms.get(name)
    if (known) return known
    const { adapter, sockets } = this.io.sockets
    const members = [...(adapter.rooms.get(name) ?? [])].flatMap((id) => sockets.get(id) ?? [])
    if (members.length === 0) return undefined
    const room = { sink: this.io.local.to(name) as EventSink, sockets: members }
    this.#rooms.set(name, room)
    return room
  }

  /** Sends to those in a room; one that then has too much to read is set aside. */
  #tell<E extends keyof ServerEvents>(name: string, event: E, payload: ServerEvents[E]): void {
    const room = this.#roomOf(name)
    if (!room) return
    room.sink.emit(event, payload)
    for (const socket of room.sockets) if (SlowSocket.isBehind(socket)) this.#setAside(socket)
  }

  /** A record may be megabytes: it is encoded once for all slow sockets that are owed it next. */
  readonly #sendRecord = (record: Message) => {
    const ids: string[] = []
    for (const [id, slowSocket] of this.#slowSockets) {
      if (slowSocket.takeRecord(record)) ids.push(id)
    }
    // No rooms would mean everybody.
    if (ids.length > 0) this.io.local.to(ids).emit('message', record)
  }

  #setAside(socket: ChatSocket): void {
    const { userId } = socket.data
    const chats = [...socket.rooms].filter((room) => room !== userId && room !== socket.id)
    for (const room of [userId, ...chats]) void socket.leave(room)
    this.#slowSockets.set(socket.id, new SlowSocket(socket, chats, this.replies, this.#sendRecord))
    this.#pump ??= setInterval(() => this.#serveSlow(), pumpEveryMs).unref()
  }

  #serveSlow(): void {
    const drained = [...this.#slowSockets.values()].filter((slowSocket) => slowSocket.isDrained())
    let served = this.#serveNext(drained)
    for (const slowSocket of drained) if (!served.has(slowSocket)) this.#readmit(slowSocket)
    // Small events share a turn.
    while (served.size > 0) served = this.#serveNext([...served].filter(({ hasRoom }) => hasRoom))
    if (this.#slowSockets.size > 0) return
    clearInterval(this.#pump)
    this.#pump = undefined
  }

  /**
   * Sends slow sockets what each is owed next; a frame is encoded once for all that are owed it.
   * @returns those that were owed something.
   */
  #serveNext(slowSockets: readonly SlowSocket[]): Set<SlowSocket> {
    const served = new Set<SlowSocket>()
    const frames = new Map<string, { frame: MessageChunk; ids: string[] }>()
    for (const slowSocket of slowSockets) {
      const next = slowSocket.takeNext()
      if (next === undefined) continue
      served.add(slowSocket)
      if (next === 'sent') continue
      const key = `${next.messageId} ${next.offset} ${next.thinking}`
      const shared = frames.get(key) ?? { frame: next, ids: [] }
      frames.set(key, shared)
      shared.ids.push(slowSocket.socket.id)
    }
    for (const { frame, ids } of frames.values()) this.io.local.to(ids).emit('message-chunk', frame)
    return served
  }

  /** A slow socket has caught up, and hears its rooms again. */
  #readmit({ socket, chats }: SlowSocket): void {
    this.#slowSockets.delete(socket.id)
    void socket.join([socket.data.userId, ...chats])
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
