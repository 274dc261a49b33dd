import type { StreamLog, TextParts } from '../cache/stream-log.js'
import type { MessageRow } from '../stores/store.js'

/** The longest text of an unfinished reply that was kept: its checkpoint, and what the log adds. */
export async function keptText(row: MessageRow, log: StreamLog | undefined): Promise<TextParts> {
  const { content, thinking = '' } = row
  const known = { content: content.length, thinking: thinking.length }
  const more = await log?.read(row.id, row.epoch, known)
  return more
    ? { content: content + more.content, thinking: thinking + more.thinking }
    : { content, thinking }
}
