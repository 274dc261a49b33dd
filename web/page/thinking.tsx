import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { LongText } from './markdown/long-text.js'
import { strings } from './strings.js'

/** What a model thought before it answered, folded. */
export function Thinking({
  text,
  isThinking,
  ms,
}: {
  text: string
  isThinking: boolean
  /** As the server measured it, once the reply has ended. */
  ms: number | undefined
}) {
  const seenMs = useSeenMs(isThinking)
  const { thinking, thought } = strings.conversation
  return (
    <details class="thinking">
      <summary>{isThinking ? thinking : thought(ms ?? seenMs)}</summary>
      {/* It takes the focus, since it scrolls by keyboard too. */}
      <section class="thinking-text" tabIndex={0} aria-label={thought(undefined)}>
        <LongText text={text} />
      </section>
    </details>
  )
}

/** How long this window saw the thinking go on; undefined while it does, and where it had ended before. */
function useSeenMs(isThinking: boolean): number | undefined {
  const began = useRef<number | undefined>(undefined)
  const [seenMs, setSeenMs] = useState<number>()
  useLayoutEffect(() => {
    if (isThinking) began.current ??= performance.now()
    else if (began.current !== undefined) setSeenMs(performance.now() - began.current)
  }, [isThinking])
  return seenMs
}
