import { useEffect, useRef } from 'preact/hooks'
import { ChatListItem } from './chat-list-item.js'
import { ErrorNote } from './error-note.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** How far ahead of its end the list is continued, in pixels. */
const aheadPx = 300

/** The chats, newest first, continued as they are scrolled. */
export function ChatList() {
  const { chats } = useStore()
  const list = useRef<HTMLDivElement>(null)
  const isLoading = useRef(false)

  function continueList() {
    const element = list.current
    if (!element || isLoading.current || !chats.hasMore.value) return
    if (element.scrollHeight - element.scrollTop - element.clientHeight > aheadPx) return
    isLoading.current = true
    void chats.loadMore().then(() => {
      isLoading.current = false
    })
  }
  useEffect(continueList, [chats.list.value, chats.hasMore.value])

  const error = chats.error.value
  const headings = {
    load: strings.chats.notLoaded,
    rename: strings.chats.notRenamed,
    delete: strings.chats.notDeleted,
  }
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the arrow keys are an addition to Tab
    <div
      class="chat-list"
      ref={list}
      onScroll={continueList}
      onKeyDown={moveFocus}
      role="presentation"
    >
      {error && (
        <div role="alert">
          <strong>{headings[error.what]}</strong>
          <ErrorNote error={error.error} />
        </div>
      )}
      {chats.isLoaded.value && !error && chats.list.value.length === 0 && (
        <p class="hint">{strings.chats.empty}</p>
      )}
      <ul>
        {chats.list.value.map((chat) => (
          <ChatListItem key={chat.id} chat={chat} />
        ))}
      </ul>
      {chats.hasMore.value && <p class="hint">{strings.chats.loading}</p>}
    </div>
  )
}

/** The arrow keys move among the links. */
function moveFocus(event: KeyboardEvent & { currentTarget: HTMLElement }) {
  if (event.altKey || (event.key !== 'ArrowDown' && event.key !== 'ArrowUp')) return
  if (!(event.target instanceof HTMLAnchorElement)) return
  const links = [...event.currentTarget.querySelectorAll<HTMLElement>('li > a')]
  const next = links[links.indexOf(event.target) + (event.key === 'ArrowDown' ? 1 : -1)]
  if (!next) return
  event.preventDefault()
  next.focus()
}
