import sonicBoom from 'sonic-boom'
import { within } from './within.js'

/** So many bytes are written at once, and what is less after so many milliseconds. */
const batch = { bytes: 4096, waitMs: 100 }
/** How many bytes may wait for a reader; lines beyond are dropped. */
const maxWaitingBytes = 4 * 1024 * 1024
/** How long the last lines may wait for a reader, in milliseconds. */
const lastLinesMs = 1000

/**
 * Standard output, written in batches: one write per line would cost a fifth of a request. A line waits
 * at most 100 ms; SIGKILL loses those that wait, and so does a reader that stops reading. pino's own
 * destination is not used: its timer writes nothing ten times a second, which is half of what an idle
 * server uses, and its flush at the exit never ends once the reader is gone.
 */
export class LogOutput {
  readonly #output = new sonicBoom.SonicBoom({
    fd: 1,
    sync: false,
    minLength: batch.bytes,
    maxLength: maxWaitingBytes,
  })
  #unwrittenBytes = 0
  #isReaderGone = false
  #timer: NodeJS.Timeout | undefined

  constructor() {
    this.#output.on('write', (bytes: number) => {
      this.#unwrittenBytes -= bytes
    })
    this.#output.on('drop', (line: string) => {
      this.#unwrittenBytes -= Buffer.byteLength(line)
    })
    // After any other error, such as of a full disk, writing is tried again.
    this.#output.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.#isReaderGone ||= code === 'EPIPE' || code === 'ECONNRESET'
    })
  }

  write(line: string): void {
    if (this.#isReaderGone) return
    this.#unwrittenBytes += Buffer.byteLength(line)
    this.#output.write(line)
    this.#timer ??= setTimeout(this.#flush, batch.waitMs).unref()
  }

  /**
   * Writes the remaining lines before the process ends. If the reader has stopped reading, the pending
   * write keeps a thread and the process would never end, so it kills itself after a second.
   */
  async end(): Promise<void> {
    const written = new Promise<true>((resolve) => {
      const writeRest = () => {
        if (this.#isOver) resolve(true)
        else this.#output.flush()
      }
      this.#output.on('drain', writeRest)
      this.#output.on('error', () => resolve(true))
      writeRest()
    })
    if (!(await within(written, lastLinesMs))) process.kill(process.pid, 'SIGKILL')
  }

  get #isOver(): boolean {
    return this.#unwrittenBytes <= 0 || this.#isReaderGone
  }

  /** Looks again until all is written: nothing is flushed while an earlier write waits for its reader. */
  readonly #flush = () => {
    this.#timer = undefined
    if (this.#isOver) return
    this.#output.flush()
    this.#timer = setTimeout(this.#flush, batch.waitMs).unref()
  }
}
