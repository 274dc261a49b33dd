import type { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { CopyButton } from '../copy-button.js'
import { strings } from '../strings.js'

/** Longer code is not highlighted, in UTF-16 units. */
const longestHighlighted = 20_000
/** Longer code is cut into pieces of so many lines, each laid out by itself. */
const pieceLines = 200

interface Code {
  text: string
  /** As the fence names it; empty when it names none. */
  language: string
  /** No more of it will come. */
  isClosed: boolean
}

/** Code with its language, a button that copies it, and colours when it is whole. */
export function CodeBlock({ text, language, isClosed }: Code) {
  const name = /^[\w+#.-]{1,30}/.exec(language)?.[0] ?? ''
  const highlighted = useHighlighted(text, name, isClosed)
  return (
    <figure class="code">
      <figcaption>
        <span>{name}</span>
        <CopyButton text={text} label={strings.code.copy} />
      </figcaption>
      <section class="code-text" tabIndex={0} aria-label={strings.code.label(name)}>
        <pre dir="ltr">
          <code>{highlighted ?? pieces(text)}</code>
        </pre>
      </section>
    </figure>
  )
}

/** The code in colours; undefined until they are there, and for code that has none. */
function useHighlighted(text: string, language: string, isClosed: boolean) {
  const [result, setResult] = useState<{ text: string; nodes: ComponentChildren }>()
  const isWanted = isClosed && language !== '' && text.length <= longestHighlighted
  useEffect(() => {
    if (!isWanted) return
    let isCurrent = true
    import('./highlight.js')
      .then(({ highlight }) => {
        if (isCurrent) setResult({ text, nodes: highlight(text, language) })
      })
      .catch(() => {
        // Built anew since this page was loaded, or offline: plain text will do.
      })
    return () => {
      isCurrent = false
    }
  }, [text, language, isWanted])
  return isWanted && result?.text === text ? result.nodes : undefined
}

function pieces(text: string): ComponentChildren {
  const lines = text.split('\n')
  if (lines.length <= pieceLines) return text
  const cut: string[] = []
  for (let from = 0; from < lines.length; from += pieceLines) {
    cut.push(lines.slice(from, from + pieceLines).join('\n'))
  }
  return cut.map((piece, index) => (
    <span class="piece" key={index}>
      {piece}
    </span>
  ))
}
