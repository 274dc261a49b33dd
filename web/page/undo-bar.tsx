import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** The deletions that can still be taken back. */
export function UndoBar() {
  const { chats } = useStore()
  return (
    <div class="undo-bar" role="status">
      {chats.deletions.value.map((deletion) => (
        <p key={deletion.chat.id}>
          <span class="undo-text">
            {strings.chats.deleted(<bdi>{deletion.chat.title ?? strings.chats.untitled}</bdi>)}
          </span>
          <button type="button" onClick={() => chats.undo(deletion)}>
            {strings.chats.undo}
          </button>
        </p>
      ))}
    </div>
  )
}
