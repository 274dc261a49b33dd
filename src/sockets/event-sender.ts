import type { Socket as TcpSocket } from 'node:net'
import { type ChatSocket, idleConnectionOf } from './chat-socket.js'

/** What socket.io keeps to itself of how it sends what is encoded already. */
interface Client {
  writeToEngine(packets: readonly string[], options: EncodedOptions): void
}
interface EncodedOptions {
  preEncoded: true
  wsPreEncodedFrame: readonly Buffer[]
}

/** An event as it is sent: a packet of socket.io, and a WebSocket's frame of it. */
interface Encoded {
  packet: string
  frame: Buffer
  /** Whether it may wait for what else this turn of the loop says: text mostly comes alone. */
  waits: boolean
}

/**
 * Sends events to sockets, each encoded once whoever hears it. A WebSocket to which nothing waits
 * to be written gets its frame as one write of its TCP connection: socket.io's own way there, from
 * its broadcast to its sender, costs more than that write. What has a queue, or another transport,
 * goes that way, so that order is kept.
 */
export class EventSender {
  readonly #encoded = new WeakMap<object, Encoded>()

  /**
   * Sends to those of `sockets` that `ids` name.
   * @param onWaiting hears of each socket for which something now waits in this process.
   */
  sendToAll(
    ids: Iterable<string>,
    sockets: ReadonlyMap<string, ChatSocket>,
    [event, payload]: readonly [event: string, payload: object],
    onWaiting: (socket: ChatSocket) => void,
  ): void {
    const encoded = encode(event, payload)
    for (const id of ids) {
      const socket = sockets.get(id)
      if (socket && !write(socket, encoded)) onWaiting(socket)
    }
  }

  /**
   * Sends to one of many who are sent the same, one after the other: a record of a megabyte that a
   * thousand sockets do not read is then one megabyte.
   * @param payload of this event only; not to be changed any more.
   */
  send(socket: ChatSocket, event: string, payload: object): void {
    const encoded = this.#encoded.get(payload) ?? encode(event, payload)
    this.#encoded.set(payload, encoded)
    write(socket, encoded)
  }
}

/** @returns whether nothing of it waits for the other side. */
function write(socket: ChatSocket, { packet, frame, waits }: Encoded): boolean {
  const connection = idleConnectionOf(socket)
  if (connection) {
    if (waits && connection.writableCorked === 0) holdBack(connection)
    connection.write(frame)
    return connection.writableLength === 0 || connection.writableCorked > 0
  }
  const options: EncodedOptions = { preEncoded: true, wsPreEncodedFrame: [frame] }
  ;(socket.client as unknown as Client).writeToEngine([packet], options)
  return false
}

/** What it is sent before this turn of the loop ends goes in one write. */
function holdBack(connection: TcpSocket): void {
  connection.cork()
  process.nextTick(release, connection)
}

const release = (connection: TcpSocket) => connection.uncork()

/** Numbers of the protocols: Engine.IO's message, Socket.IO's event, RFC 6455's whole text frame. */
const message = '4'
const eventPacket = '2'
const textFrame = 0x81

function encode(event: string, payload: object): Encoded {
  const packet = `${eventPacket}${JSON.stringify([event, payload])}`
  const text = message + packet
  const length = Buffer.byteLength(text)
  const head = length < 126 ? 2 : length < 65_536 ? 4 : 10
  const frame = Buffer.allocUnsafe(head + length)
  frame[0] = textFrame
  if (head === 2) frame[1] = length
  else if (head === 4) {
    frame[1] = 126
    frame.writeUInt16BE(length, 2)
  } else {
    frame[1] = 127
    frame.writeUIntBE(0, 2, 2)
    frame.writeUIntBE(length, 4, 6)
  }
  frame.write(text, head)
  return { packet, frame, waits: event !== 'message-chunk' }
}
