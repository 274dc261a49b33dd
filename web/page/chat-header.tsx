import { useEffect } from 'preact/hooks'
import { MenuIcon, SettingsIcon } from './icons.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** The browser would turn what it writes beside the title, too. */
const directionMarks = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

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
    const plain = title.replace(directionMarks, '')
    document.title = chatId === undefined ? strings.product : `${plain} · ${strings.product}`
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
