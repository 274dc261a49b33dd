import { useEffect } from 'preact/hooks'
import { ChatHeader } from './chat-header.js'
import { ChatList } from './chat-list.js'
import { Composer } from './composer.js'
import { ConnectionLine } from './connection-line.js'
import { Conversation } from './conversation.js'
import { EmptyStart } from './empty-start.js'
import { onPageKey } from './keyboard.js'
import { NewChatMessages } from './pending-messages.js'
import { SettingsPanel } from './settings-panel.js'
import { Sidebar } from './sidebar.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'
import { SurviveStrip } from './survive-strip.js'
import { UndoBar } from './undo-bar.js'

/** The chats at the side, the one that is shown, and its settings. */
export function Workspace() {
  const store = useStore()
  const { route, thread, look, newChat } = store
  const chatId = route.chatId.value

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => onPageKey(store, event)
    window.addEventListener('keydown', onKey)
    return () => window.removeEventListener('keydown', onKey)
  }, [store])

  return (
    <div class="workspace" data-settings={look.isSettingsOpen.value || undefined}>
      <a class="skip" href="#message">
        {strings.skipToMessage}
      </a>
      <Sidebar>
        <ChatList />
      </Sidebar>
      {/* The list lies over it where the window is narrow. */}
      <main class="chat" inert={look.isListOpen.value}>
        <ChatHeader />
        {chatId !== undefined && <SurviveStrip />}
        {chatId === undefined && (newChat.starting.value ? <NewChatMessages /> : <EmptyStart />)}
        {chatId !== undefined && thread.value && (
          <Conversation key={thread.value.chatId} thread={thread.value} />
        )}
        <ConnectionLine />
        <Composer />
      </main>
      {look.isSettingsOpen.value && <SettingsPanel key={chatId ?? 'new'} />}
      <UndoBar />
    </div>
  )
}
