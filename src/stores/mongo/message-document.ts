import type { MessageRow } from '../store.js'
import { withPieces } from '../text-pieces.js'
import type { MessageDocument } from './collections.js'

export function messageOf(document: MessageDocument): MessageRow {
  const { _id, activeIn: _, attempt: __, title: ___, pieces, ...message } = document
  const row = { id: _id, ...message }
  return pieces ? withPieces(row, pieces) : row
}

export function documentOf({ id, ...message }: MessageRow): MessageDocument {
  return { _id: id, ...message, ...(message.leaseUntil && { activeIn: message.chatId }) }
}
