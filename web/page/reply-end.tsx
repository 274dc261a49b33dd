import type { Message } from '../client/index.js'
import { CopyButton } from './copy-button.js'
import { ErrorNote } from './error-note.js'
import { useStore } from './store/store.js'
import type { Thread } from './store/thread.js'
import { strings } from './strings.js'
import { UsageLine } from './usage-line.js'

/** What became of a reply, and what can be done about it. */
export function ReplyEnd({ thread, message }: { thread: Thread; message: Message }) {
  const { content, status, error, usage, model } = message
  const note = noteOf(message)
  return (
    <footer class="reply-end">
      {note && <p class="notice">{note}</p>}
      {status === 'error' && <ErrorNote error={error ?? fallbackError} />}
      <div class="reply-line">
        {content !== '' && <CopyButton text={content} label={strings.conversation.copyMessage} />}
        {status !== 'complete' && <AskAgain thread={thread} reply={message} />}
        <UsageLine model={model} usage={usage} />
      </div>
    </footer>
  )
}

const fallbackError = { code: 'UNKNOWN', message: strings.conversation.failed }

/** What is said of a reply that ended otherwise than by being done. */
function noteOf({ status, finishReason }: Message): string | undefined {
  const { stopped, interrupted, finish } = strings.conversation
  if (status === 'stopped') return stopped
  if (status === 'interrupted') return interrupted
  if (status !== 'complete' || finishReason === undefined || finishReason === 'stop')
    return undefined
  const known: Readonly<Record<string, string | ((reason: string) => string)>> = finish
  const told = finishReason === 'other' ? undefined : known[finishReason]
  return typeof told === 'string' ? told : finish.other(finishReason)
}

/** Sends the message that a reply belongs to once more. */
function AskAgain({ thread, reply }: { thread: Thread; reply: Message }) {
  const store = useStore()
  const messages = thread.messages.value
  // Only the last one: further up it would be out of its place.
  const question = messages.at(-1)?.id === reply.id ? messages.at(-2) : undefined
  if (question?.role !== 'user') return null
  return (
    <button
      type="button"
      class="quiet"
      onClick={() => store.sendIn(thread.chatId, question.content)}
    >
      {strings.conversation.again}
    </button>
  )
}
