import { Lexer, type MarkedToken, type Token, type TokensList } from 'marked'

/** The lexer is quadratic for some hostile text: longer runs of text than this are shown as they are. */
const longestInline = 8000
/** Quotes and lists that are nested more deeply are text: each level is read once more. */
const deepestRead = 32

/** Reads Markdown that grows: blocks that later text cannot change are read once. */
export class MarkdownBlocks {
  /** How many link definitions there are: they change blocks whose text stays the same. */
  definitions = 0
  #settled: readonly MarkedToken[] = []
  #settledText = ''

  /** @param isWhole no more will come: everything is read together. */
  read(text: string, isWhole: boolean): readonly MarkedToken[] {
    const normal = text.replace(/\r\n?/g, '\n')
    if (isWhole || !normal.startsWith(this.#settledText)) {
      this.#settled = []
      this.#settledText = ''
    }
    const { tokens, definitions } = readBlocks(normal.slice(this.#settledText.length), isWhole)
    if (isWhole) this.definitions = definitions
    const blocks = [...this.#settled, ...tokens]
    if (!isWhole) this.#settle(tokens)
    return blocks
  }

  /** The last two blocks may still change, and so does one that no empty line has ended. */
  #settle(tokens: readonly MarkedToken[]): void {
    const keep = tokens.findLastIndex(
      (token, at) => at < tokens.length - 3 && token.type === 'space',
    )
    if (keep < 0) return
    const done = tokens.slice(0, keep + 1)
    this.#settled = [...this.#settled, ...done]
    this.#settledText += done.map(({ raw }) => raw).join('')
  }
}

/** Definitions of links count once all are whole: what looks like one may go on to be none. */
function readBlocks(
  text: string,
  isWhole: boolean,
): { tokens: MarkedToken[]; definitions: number } {
  try {
    const lexer = new BoundedLexer({ gfm: true })
    const tokens: TokensList = lexer.blockTokens(text, lexer.tokens) as TokensList
    if (!isWhole) tokens.links = {}
    for (const { src, tokens: into } of lexer.inlineQueue) {
      if (src.length <= longestInline) lexer.inlineTokens(src, into)
      else into.push({ type: 'text', raw: src, text: src, escaped: false })
    }
    return { tokens: tokens as MarkedToken[], definitions: Object.keys(tokens.links).length }
  } catch {
    // Nested too deeply to be read.
    return { tokens: [plain(text)], definitions: 0 }
  }
}

class BoundedLexer extends Lexer {
  #depth = 0

  override blockTokens(text: string, into?: Token[], isClipped?: boolean): Token[]
  override blockTokens(text: string, into?: TokensList, isClipped?: boolean): TokensList
  override blockTokens(text: string, into: Token[] = [], isClipped?: boolean): Token[] {
    if (this.#depth === deepestRead) {
      into.push(plain(text))
      return into
    }
    this.#depth += 1
    super.blockTokens(text, into, isClipped)
    this.#depth -= 1
    return into
  }
}

function plain(text: string): MarkedToken {
  const content: Token = { type: 'text', raw: text, text, escaped: false }
  return { type: 'paragraph', raw: text, text, tokens: [content] }
}
