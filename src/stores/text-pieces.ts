import type { TextPiece } from './store.js'

/**
 * A reply with the pieces that were appended to its texts, in the order in which they were stored.
 * A piece that was stored twice, whole or in part, adds nothing the second time.
 */
export function withPieces<R extends { content: string; thinking?: string }>(
  reply: R,
  pieces: readonly TextPiece[],
): R {
  const content = joined(reply.content, pieces, 'content')
  const thinking = joined(reply.thinking ?? '', pieces, 'thinking')
  return { ...reply, content, ...(thinking && { thinking }) }
}

function joined(text: string, pieces: readonly TextPiece[], part: 'content' | 'thinking'): string {
  const parts = [text]
  let { length } = text
  for (const piece of pieces) {
    const added = piece[part].slice(Math.max(0, length - piece.from[part]))
    if (piece.from[part] > length || added === '') continue
    parts.push(added)
    length += added.length
  }
  return parts.join('')
}
