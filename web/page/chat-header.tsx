import { useEffect } from 'preact/hooks'
import { MenuIcon, SettingsIcon } from './icons.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** The title of the chat that is shown, and what opens its settings. */
export function ChatHeader() {
  const { route, thread, chats, look } = useStore()
  const chatId = route.chatId.value
  // The list knows of a new title before the server has said so.
  const listed = chats.list.value.find(({ id }) => id === chatId)
  const title =
    chatId === undefined
      ? strings.chats.newChat
      : (listed?.title ?? thread.value?.chat.value?.title ?? strings.chats.untitled)

  useEffect(() => {
    document.title = chatId === undefined ? strings.product : `${title} · ${strings.product}`
  }, [title, chatId])

  return (
    <header class="chat-header">
      <button
        id="open-list"
        type="button"
        class="icon-button only-narrow"
        aria-label={strings.chats.open}
        aria-expanded={look.isListOpen.value}
        onClick={() => {
          look.isListOpen.value = true
        }}
      >
        <MenuIcon />
      </button>
      <h1 dir="auto" title={title}>
        {title}
      </h1>
      <button
        id="open-settings"
        type="button"
        class="icon-button"
        aria-label={strings.settings.open}
        aria-expanded={look.isSettingsOpen.value}
        onClick={() => {
          look.isSettingsOpen.value = !look.isSettingsOpen.value
        }}
      >
        <SettingsIcon />
      </button>
    </header>
  )
}
