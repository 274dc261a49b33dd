import { readSync } from 'node:fs'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { type buildConnector, Client, type Dispatcher, Pool } from 'undici'

/** Of a model so slow that hardly a fetch finds anything, one in so many is tried. */
const mostVain = 31

/**
 * The reins of a connection's reading. While it is held, what arrives stays with the operating
 * system until it is asked for, and is then one read instead of one for each packet.
 */
export class Pace {
  /** Hears of each reading that is put off; set while readings are. */
  #onWaiting: (() => void) | undefined
  #isWaiting = false
  #read: () => void = () => {}
  #take: () => boolean = () => false
  /** Fetches that are left to the loop before one is tried past it again. */
  #left = 0
  /** How many of them the last tries suggest: one that is in vain costs more than it saves. */
  #vain = 0

  /** Takes charge of a new connection, whose stream reads on by `_read` after each packet. */
  of(socket: Socket): void {
    const read = socket._read.bind(socket)
    this.#isWaiting = false
    this.#read = () => read(1)
    this.#take = () => takeFrom(socket)
    socket._read = () => {
      if (!this.#onWaiting) return this.#read()
      this.#isWaiting = true
      this.#onWaiting()
    }
  }

  /** Whether a reading waits for `fetch` or `next`. */
  get isWaiting(): boolean {
    return this.#isWaiting
  }

  /**
   * From now on a packet is followed by no other until `fetch` or `next` is called.
   * @param onWaiting hears of each packet, before who reads it; it may bring less than a line.
   */
  hold(onWaiting: () => void): void {
    this.#onWaiting = onWaiting
  }

  /** Takes what has arrived, at once; if that is nothing, what arrives next is read as it comes. */
  fetch(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    if (this.#left > 0) this.#left--
    else if (this.#take()) {
      this.#vain >>= 1
      return
    } else {
      this.#vain = Math.min(2 * this.#vain + 1, mostVain)
      this.#left = this.#vain
    }
    this.#read()
  }

  /** Reads what has arrived, as soon as the event loop polls, or what arrives next. */
  next(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    this.#read()
  }

  /** What arrives is read as it comes, from now on. */
  release(): void {
    this.#onWaiting = undefined
    this.next()
  }
}

/** As much as the event loop takes in one read. */
const taken = Buffer.allocUnsafeSlow(64 * 1024)

/**
 * Reads a connection past the event loop, which would have it watched and unwatched again, and be
 * woken in between by the next packet.
 * @returns whether it told its stream something. What only the event loop can read is left to it:
 *   the end of a connection, one that is encrypted, and all of them on Windows.
 */
function takeFrom(socket: Socket): boolean {
  // Asked for each time: a connection that was closed has none, and its number is another's.
  const { fd = -1 } = (socket as unknown as { _handle: { fd?: number } | null })._handle ?? {}
  if (fd < 0 || socket instanceof TLSSocket) return false
  try {
    const bytes = readSync(fd, taken)
    if (bytes > 0) socket.push(Buffer.from(taken.subarray(0, bytes)))
    return bytes > 0
  } catch (error) {
    if (!(error instanceof Error)) throw error
    if ('code' in error && error.code === 'EAGAIN') return false
    socket.destroy(error)
    return true
  }
}

export interface PacedRequest extends Dispatcher.DispatchOptions {
  /** Gets the reins of the connection that the request goes by. */
  onPace?: (pace: Pace) => void
}

/** Each packet fills a connection's stream, which then reads on only when it was taken. */
const oneByte: buildConnector.BuildOptions & { highWaterMark: number } = { highWaterMark: 1 }

/** undici's pool, of connections with reins. */
export const createPacedPool = (origin: string, options: Pool.Options): Pool =>
  new Pool(origin, {
    ...options,
    connect: oneByte,
    factory: (url, options) => new PacedClient(url, options),
  })

/** undici's client of one connection, with the reins of its reading. */
class PacedClient extends Client {
  readonly #pace: Pace

  /** @param options with the pool's connector. */
  constructor(origin: URL, options: Client.Options) {
    const { connect } = options
    if (typeof connect !== 'function') throw new TypeError('options.connect must be a function')
    const pace = new Pace()
    super(origin, {
      ...options,
      connect(where, callback) {
        connect(where, (...outcome) => {
          const [, socket] = outcome
          if (socket) pace.of(socket)
          callback(...outcome)
        })
      },
    })
    this.#pace = pace
  }

  override dispatch(request: PacedRequest, handler: Dispatcher.DispatchHandler): boolean {
    request.onPace?.(this.#pace)
    return super.dispatch(request, handler)
  }
}
