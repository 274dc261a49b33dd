import { strings } from './strings.js'

/** What a model thought before it answered, folded. */
export function Thinking({
  text,
  isThinking,
  ms,
}: {
  text: string
  isThinking: boolean
  ms: number | undefined
}) {
  const { thinking, thought } = strings.conversation
  return (
    <details class="thinking">
      <summary>{isThinking ? thinking : thought(ms)}</summary>
      <div class="thinking-text" dir="auto">
        {text}
      </div>
    </details>
  )
}
