import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { AppError } from '../errors.js'

const signatureBytes = 12

export interface Cursors {
  /** An opaque text for `fields`, good for `list` (a name and its owner) alone. */
  seal(list: string, fields: readonly (string | number)[]): string
  /** @throws AppError BAD_CURSOR unless `seal` made it for the same list. */
  open(list: string, cursor: string): (string | number)[]
}

/** Cursors that a client can neither make nor change nor use elsewhere: each bears an HMAC. */
export function createCursors(secret: string): Cursors {
  const key = Buffer.from(hkdfSync('sha256', secret, '', 'cursor', 32))
  const sign = (list: string, body: Buffer) =>
    createHmac('sha256', key)
      .update(list)
      .update('\0')
      .update(body)
      .digest()
      .subarray(0, signatureBytes)

  return {
    seal(list, fields) {
      const body = Buffer.from(JSON.stringify(fields))
      return Buffer.concat([sign(list, body), body]).toString('base64url')
    },
    open(list, cursor) {
      const bytes = Buffer.from(cursor, 'base64url')
      const body = bytes.subarray(signatureBytes)
      const genuine =
        bytes.length > signatureBytes &&
        bytes.toString('base64url') === cursor &&
        timingSafeEqual(bytes.subarray(0, signatureBytes), sign(list, body))
      if (!genuine) throw new AppError('BAD_CURSOR')
      return JSON.parse(body.toString())
    },
  }
}
