import { EventEmitter, once } from 'node:events'
import { connect, type Socket } from 'node:net'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** What Java's HttpClient and `curl --http2` send with a first request without TLS. */
export const h2cHeaders =
  'Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n' +
  'HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n'

const answerMs = 60_000

/** A connection on which a test writes each byte itself, and reads the answers one by one. */
export class RawConnection {
  #received = Buffer.alloc(0)
  /** Tells of each piece received, and of the end. */
  readonly #changes = new EventEmitter()

  private constructor(private readonly socket: Socket) {
    socket.on('data', (data) => {
      this.#received = Buffer.concat([this.#received, data])
      this.#changes.emit('change')
    })
    socket.on('close', () => this.#changes.emit('change'))
    // A reset shows as a missing answer.
    socket.on('error', () => {})
  }

  static async open(t: Teardown, url: string): Promise<RawConnection> {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    t.teardown(() => socket.destroy())
    await once(socket, 'connect')
    return new RawConnection(socket)
  }

  write(text: string): void {
    this.socket.write(text)
  }

  /** Resolves when what was written is with the kernel, and the server has had a turn to read it. */
  async written(): Promise<void> {
    await new Promise((resolve) => this.socket.write('', resolve))
    await new Promise((resolve) => setTimeout(resolve, 50))
  }

  ask(text: string) {
    this.write(text)
    return this.answer()
  }

  /** The next answer, which must have a `Content-Length`. */
  async answer(): Promise<{ status: number; head: string; body: string }> {
    const signal = AbortSignal.timeout(answerMs)
    while (true) {
      const end = this.#received.indexOf('\r\n\r\n')
      const head = this.#received.subarray(0, Math.max(0, end)).toString()
      const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0)
      const next = end + 4 + length
      if (end >= 0 && this.#received.length >= next) {
        const body = this.#received.subarray(end + 4, next).toString()
        this.#received = this.#received.subarray(next)
        return { status: Number(head.split(' ')[1]), head, body }
      }
      if (this.socket.closed) throw new Error(`closed after: ${this.#received}`)
      await once(this.#changes, 'change', { signal })
    }
  }

  async closed(): Promise<void> {
    if (!this.socket.closed)
      await once(this.socket, 'close', { signal: AbortSignal.timeout(answerMs) })
  }
}
