import type { StreamLog } from '../cache/stream-log.js'
import type { MessageRow } from '../stores/store.js'
import type { KeptText } from './reply-state.js'

/** The longest text of an unfinished reply that was kept: its checkpoint, and what the log adds. */
export async function keptText(row: MessageRow, log: StreamLog | undefined): Promise<KeptText> {
  const { content, thinking = '', tokens = { kept: 0, discarded: 0 } } = row
  const known = { content: content.length, thinking: thinking.length }
  const more = await log?.read(row.id, row.epoch, known)
  if (!more) return { content, thinking, tokens }
  return {
    content: content + more.content,
    thinking: thinking + more.thinking,
    tokens: { ...tokens, kept: more.tokens ?? tokens.kept },
  }
}
