import type { Store } from './store/store.js'

/** The keys that work wherever the focus is. */
export function onPageKey(store: Store, event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return
  const { altKey, ctrlKey, metaKey, shiftKey, code } = event
  if (code === 'Escape') {
    onEscape(store, event)
    return
  }
  if (!altKey || ctrlKey || metaKey || shiftKey) return
  if (code === 'KeyN') {
    event.preventDefault()
    store.open(undefined)
  } else if (code === 'ArrowUp' || code === 'ArrowDown') {
    event.preventDefault()
    const step = code === 'ArrowUp' ? -1 : 1
    const next = store.chats.neighbour(store.route.chatId.value, step)
    if (next) store.open(next.id)
  }
}

/** Closes what lies over the chat, else stops the reply. */
function onEscape({ look, thread }: Store, event: KeyboardEvent): void {
  // A dialog closes itself.
  if (document.querySelector('dialog[open]')) return
  event.preventDefault()
  if (look.isListOpen.value) look.isListOpen.value = false
  else if (thread.value?.running.value) void thread.value.stop()
  else look.isSettingsOpen.value = false
}
