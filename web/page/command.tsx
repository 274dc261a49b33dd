import { CopyButton } from './copy-button.js'
import { strings } from './strings.js'

/** A command for a terminal, with a button that copies it. */
export function Command({ text }: { text: string }) {
  return (
    <div class="command">
      <code dir="ltr">{text}</code>
      <CopyButton text={text} label={strings.conversation.copyMessage} />
    </div>
  )
}
