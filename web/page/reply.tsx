import type { Message } from '../client/index.js'
import { Markdown } from './markdown/markdown.js'
import { QueuePlace } from './queue-place.js'
import { ReplyEnd } from './reply-end.js'
import { isRunning, type Thread } from './store/thread.js'
import { strings } from './strings.js'
import { Thinking } from './thinking.js'
import { usePaced } from './use-paced.js'

/** A reply: its thinking, its text, and what became of it. */
export function Reply({ thread, message }: { thread: Thread; message: Message }) {
  const view = thread.view(message).value
  const runs = isRunning(view)
  const text = usePaced(view.text, runs)
  const isWaiting = runs && view.text === '' && view.thinking === ''
  return (
    <article class="turn reply" aria-label={strings.conversation.reply} aria-busy={runs}>
      {view.thinking !== '' && (
        <Thinking
          text={view.thinking}
          isThinking={runs && view.text === ''}
          ms={message.usage?.thinkingMs}
        />
      )}
      {isWaiting && <QueuePlace position={view.position} estimatedStart={view.estimatedStart} />}
      {/* Without a direction for all: with each new block the browser would look through every other. */}
      <div class="reply-text" data-running={(runs && !isWaiting) || undefined}>
        <Markdown text={text} isWhole={!runs} />
      </div>
      {!runs && <ReplyEnd thread={thread} message={message} />}
    </article>
  )
}
