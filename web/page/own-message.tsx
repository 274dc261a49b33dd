import type { Message } from '../client/index.js'
import { strings } from './strings.js'

/** What a person wrote, as it was written. */
export function OwnMessage({ message }: { message: Message }) {
  return (
    <article class="turn own" aria-label={strings.conversation.you}>
      <div class="own-text" dir="auto">
        {message.content}
      </div>
    </article>
  )
}
