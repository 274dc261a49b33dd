import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** A message that the server does not have yet. */
function PendingMessage({ content }: { content: string }) {
  const { connection } = useStore()
  const { waiting, waitingOffline, you } = strings.conversation
  const isOnline = connection.state.value.status === 'online'
  return (
    <article class="turn own pending" aria-label={you}>
      <div class="own-text" dir="auto">
        {content}
      </div>
      <p class="hint">{isOnline ? waiting : waitingOffline}</p>
    </article>
  )
}

/** What waits to be sent in the chat that is shown. */
export function PendingMessages() {
  const { pending } = useStore()
  return (
    <>
      {pending.value.map(({ clientMessageId, content }) => (
        <PendingMessage key={clientMessageId} content={content} />
      ))}
    </>
  )
}

/** What waits for a new chat to be made. */
export function NewChatMessages() {
  const { newChat } = useStore()
  return (
    <div class="scroller">
      <div class="column">
        {newChat.starting.value?.messages.map(({ clientMessageId, content }) => (
          <PendingMessage key={clientMessageId} content={content} />
        ))}
      </div>
    </div>
  )
}
