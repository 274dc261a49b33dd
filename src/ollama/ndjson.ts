import { isUtf8 } from 'node:buffer'
import { AppError } from '../errors.js'

const newline = 0x0a
const carriageReturn = 0x0d
const replacement = '\ufffd'

/**
 * Cuts a byte stream into lines of text, wherever its chunks end. Blank lines are left out.
 *
 * Each byte is scanned once, and at most `maxBytes` of an unfinished line are held.
 * `push` and `end` throw AppError MODEL_BAD_RESPONSE for a line that is longer or not UTF-8, and
 * what `onLine` throws; the splitter cannot be used after that.
 * @param maxBytes of one line, without its end.
 */
export function createLineSplitter(onLine: (line: string) => void, maxBytes = 1024 * 1024) {
  let held = Buffer.alloc(0)
  let heldBytes = 0

  function refuseOver(bytes: number) {
    if (bytes <= maxBytes) return
    held = Buffer.alloc(0)
    heldBytes = 0
    throw new AppError('MODEL_BAD_RESPONSE', {
      message: `Ollama sent a line of more than ${maxBytes} bytes.`,
    })
  }

  // Doubling keeps the cost of a line that comes byte by byte linear.
  function hold(chunk: Buffer, start: number, end: number) {
    const bytes = heldBytes + end - start
    refuseOver(bytes)
    if (bytes > held.length) {
      const larger = Buffer.allocUnsafe(Math.min(Math.max(bytes, 2 * held.length, 1024), maxBytes))
      held.copy(larger, 0, 0, heldBytes)
      held = larger
    }
    chunk.copy(held, heldBytes, start, end)
    heldBytes = bytes
  }

  function take(bytes: Buffer, start: number, lineEnd: number) {
    const end = lineEnd > start && bytes[lineEnd - 1] === carriageReturn ? lineEnd - 1 : lineEnd
    if (end === start) return
    const line = bytes.toString('utf8', start, end)
    // Only a line with U+FFFD can have been invalid: others need no second scan.
    if (line.includes(replacement) && !isUtf8(bytes.subarray(start, end))) {
      throw new AppError('MODEL_BAD_RESPONSE', { message: 'Ollama sent what is not UTF-8.' })
    }
    onLine(line)
  }

  function takeHeld() {
    const bytes = heldBytes
    heldBytes = 0
    take(held, 0, bytes)
  }

  return {
    push(chunk: Buffer) {
      for (let start = 0; start < chunk.length; ) {
        const end = chunk.indexOf(newline, start)
        if (end === -1) return hold(chunk, start, chunk.length)
        if (heldBytes > 0) {
          hold(chunk, start, end)
          takeHeld()
        } else {
          refuseOver(end - start)
          take(chunk, start, end)
        }
        start = end + 1
      }
    },
    /** Ends the stream: what is left is the last line. */
    end: takeHeld,
  }
}
