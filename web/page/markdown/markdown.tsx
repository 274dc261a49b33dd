import type { MarkedToken, Token, Tokens } from 'marked'
import { Component, type ComponentChildren, Fragment } from 'preact'
import { useRef } from 'preact/hooks'
import { strings } from '../strings.js'
import { MarkdownBlocks } from './blocks.js'
import { CodeBlock } from './code-block.js'
import { decodeEntities } from './entities.js'
import { safeAddress } from './links.js'
import { LongText, longestPiece } from './long-text.js'

/** Deeper nesting is shown as text. */
const deepest = 24

/** A reply's text as Markdown, made of elements and text alone: no HTML of the text is ever parsed. */
export function Markdown({ text, isWhole }: { text: string; isWhole: boolean }) {
  const reader = useRef(new MarkdownBlocks()).current
  const blocks = reader.read(text, isWhole)
  return (
    <Fragment key={reader.definitions}>
      {blocks.map((token, index) => (
        <Block key={index} token={token} />
      ))}
    </Fragment>
  )
}

/** One block; it is made again only when its text changed. One that cannot be shown is shown as its text. */
class Block extends Component<{ token: MarkedToken }, { hasFailed?: true }> {
  override shouldComponentUpdate(
    { token }: { token: MarkedToken },
    { hasFailed }: { hasFailed?: true },
  ): boolean {
    const { raw, type } = this.props.token
    return token.raw !== raw || token.type !== type || hasFailed !== this.state.hasFailed
  }

  override componentDidCatch() {
    this.setState({ hasFailed: true })
  }

  override render({ token }: { token: MarkedToken }, { hasFailed }: { hasFailed?: true }) {
    return hasFailed ? <p dir="auto">{token.raw}</p> : block(token, 0)
  }
}

const blocks = (tokens: readonly Token[], depth: number) =>
  tokens.map((token) => block(token as MarkedToken, depth))

function block(token: MarkedToken, depth: number): ComponentChildren {
  if (depth > deepest) return token.raw
  switch (token.type) {
    case 'space':
    case 'def':
      return null
    case 'code':
      return <CodeBlock text={token.text} language={token.lang ?? ''} isClosed={isClosed(token)} />
    case 'heading':
      return heading(token, depth)
    case 'hr':
      return <hr />
    case 'blockquote':
      return <blockquote dir="auto">{blocks(token.tokens, depth + 1)}</blockquote>
    case 'list':
      return list(token, depth)
    case 'table':
      return table(token, depth)
    case 'paragraph':
      if (token.text.length > longestPiece) return <LongText text={token.text} />
      return <p dir={directionAt(depth)}>{inlines(token.tokens, depth)}</p>
    case 'html':
      return <p dir={directionAt(depth)}>{token.raw.trim()}</p>
    default:
      return inline(token, depth)
  }
}

/** A list or quote has the direction of the first letter in it, but for what has one of its own. */
const directionAt = (depth: number) => (depth === 0 ? 'auto' : undefined)

/** The page has its own first and second level. */
function heading({ depth: level, tokens }: Tokens.Heading, depth: number) {
  const Tag = `h${Math.min(level + 2, 6)}` as 'h3'
  return <Tag dir="auto">{inlines(tokens, depth)}</Tag>
}

function list({ ordered, start, items }: Tokens.List, depth: number) {
  const entries = items.map((item) => (
    <li class={item.task ? 'task' : undefined}>{blocks(item.tokens, depth + 1)}</li>
  ))
  if (!ordered) return <ul dir="auto">{entries}</ul>
  return (
    <ol dir="auto" start={start === '' ? undefined : start}>
      {entries}
    </ol>
  )
}

function table({ header, rows }: Tokens.Table, depth: number) {
  const style = ({ align }: Tokens.TableCell) => ({
    textAlign: align ?? 'start',
  })
  return (
    <section class="table" aria-label={strings.code.table} tabIndex={0}>
      <table dir="auto">
        <thead>
          <tr>
            {header.map((cell) => (
              <th scope="col" style={style(cell)}>
                {inlines(cell.tokens, depth)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>
              {row.map((cell) => (
                <td style={style(cell)}>{inlines(cell.tokens, depth)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}

const inlines = (tokens: readonly Token[] | undefined, depth: number): ComponentChildren =>
  tokens?.map((token) => inline(token as MarkedToken, depth + 1))

function inline(token: MarkedToken, depth: number): ComponentChildren {
  if (depth > deepest) return token.raw
  switch (token.type) {
    case 'text':
      return token.tokens ? inlines(token.tokens, depth) : decodeEntities(token.text)
    case 'escape':
      return token.text
    case 'strong':
      return <strong>{inlines(token.tokens, depth)}</strong>
    case 'em':
      return <em>{inlines(token.tokens, depth)}</em>
    case 'del':
      return <del>{inlines(token.tokens, depth)}</del>
    case 'codespan':
      return <code dir="auto">{token.text}</code>
    case 'br':
      return <br />
    case 'link':
      return link(token, depth)
    case 'image':
      return image(token)
    case 'checkbox':
      return checkbox(token.checked)
    case 'html':
      return /^<br\s*\/?>$/i.test(token.raw) ? <br /> : token.raw
    default:
      return block(token, depth + 1)
  }
}

function link({ href, tokens, raw }: Tokens.Link, depth: number): ComponentChildren {
  const address = safeAddress(href)
  if (!address) return raw
  return (
    <a href={address.href} target="_blank" rel="noopener noreferrer nofollow" title={address.href}>
      <bdi>{inlines(tokens, depth)}</bdi>
    </a>
  )
}

/** Never loaded: whoever wrote the reply would learn that it is read. */
function image({ href, text, raw }: Tokens.Image): ComponentChildren {
  const address = safeAddress(href)
  if (!address) return raw
  return (
    <a
      class="image"
      href={address.href}
      target="_blank"
      rel="noopener noreferrer nofollow"
      title={address.href}
    >
      <bdi>{strings.code.image(decodeEntities(text))}</bdi>
    </a>
  )
}

function checkbox(isChecked: boolean) {
  return (
    <span class="checkbox">
      <span class="hidden">{isChecked ? strings.code.done : strings.code.open} </span>
      <span aria-hidden="true">{isChecked ? '☑' : '☐'} </span>
    </span>
  )
}

/** A block of code whose end has come: an indented one, or one whose fence is closed. */
function isClosed({ raw, codeBlockStyle }: Tokens.Code): boolean {
  return codeBlockStyle === 'indented' || /\n[ \t]*(?:`{3,}|~{3,})\s*$/.test(raw)
}
