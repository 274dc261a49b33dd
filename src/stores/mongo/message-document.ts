import type { MessageRow } from '../store.js'
import type { MessageDocument } from './collections.js'

export function messageOf(document: MessageDocument): MessageRow {
  const { _id, activeIn: _, attempt: __, ...message } = document
  return { id: _id, ...message }
}

export function documentOf({ id, ...message }: MessageRow): MessageDocument {
  return { _id: id, ...message, ...(message.leaseUntil && { activeIn: message.chatId }) }
}
