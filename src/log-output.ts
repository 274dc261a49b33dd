import pino from 'pino'
import { within } from './within.js'

/** So many bytes are written at once, and what is less after so many milliseconds. */
const batch = { bytes: 4096, waitMs: 100 }
/** How many bytes may wait for a reader; lines beyond are dropped. */
const maxWaitingBytes = 4 * 1024 * 1024
/** How long the last lines may wait for a reader, in milliseconds. */
const lastLinesMs = 1000

/**
 * Standard output, written in batches: one write per line would cost a fifth of a request. A line waits
 * at most 100 ms; SIGKILL loses those that wait, and so does a reader that stops reading.
 */
export class LogOutput {
  readonly #output = pino.destination({
    dest: 1,
    sync: false,
    minLength: batch.bytes,
    maxLength: maxWaitingBytes,
  })
  #unwrittenBytes = 0
  // pino's `periodicFlush` writes nothing ten times a second, which is half of what an idle server uses.
  #timer: NodeJS.Timeout | undefined

  constructor() {
    // A reader that exits with lines unread causes ECONNRESET; pino recovers from EPIPE only.
    this.#output.prependListener('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') error.code = 'EPIPE'
      this.#unwrittenBytes = 0
    })
    this.#output.on('write', (bytes: number) => {
      this.#unwrittenBytes -= bytes
    })
    this.#output.on('drop', (line: string) => {
      this.#unwrittenBytes -= Buffer.byteLength(line)
    })
  }

  write(line: string): void {
    this.#unwrittenBytes += Buffer.byteLength(line)
    this.#output.write(line)
    this.#timer ??= setTimeout(this.#flush, batch.waitMs).unref()
  }

  /** Writes all that waits before it returns; pino calls it for a fatal error. */
  flushSync(): void {
    this.#output.flushSync()
    this.#unwrittenBytes = 0
  }

  /**
   * Writes the remaining lines before the process ends. If the reader has stopped reading, the pending
   * write keeps a thread and the process would never end, so it kills itself after a second.
   */
  async end(): Promise<void> {
    const written = new Promise<true>((resolve) => {
      // An error means that nobody reads, so there is nothing left to write.
      this.#output.flush(() => resolve(true))
    })
    if (!(await within(written, lastLinesMs))) process.kill(process.pid, 'SIGKILL')
  }

  /** Looks again until all is written: nothing is flushed while an earlier write waits for its reader. */
  readonly #flush = () => {
    this.#timer = undefined
    if (this.#unwrittenBytes <= 0) return
    this.#output.flush()
    this.#timer = setTimeout(this.#flush, batch.waitMs).unref()
  }
}
