import type { TextPiece, TokenCount } from './store.js'

/**
 * A reply with the pieces that were appended to its texts, in the order in which they were stored.
 * A piece that was stored twice, whole or in part, adds nothing the second time.
 */
export function withPieces<R extends { content: string; thinking?: string; tokens?: TokenCount }>(
  reply: R,
  pieces: readonly TextPiece[],
): R {
  if (pieces.length === 0) return reply
  const content = joined(reply.content, pieces, 'content')
  const thinking = joined(reply.thinking ?? '', pieces, 'thinking')
  const { kept = 0, discarded = 0 } = reply.tokens ?? {}
  const tokens = { kept: Math.max(kept, ...pieces.map((piece) => piece.tokens)), discarded }
  return { ...reply, content, ...(thinking && { thinking }), tokens }
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
