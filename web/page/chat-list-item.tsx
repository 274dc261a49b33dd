import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { ChatSummary } from '../client/index.js'
import { DeleteIcon, RenameIcon } from './icons.js'
import { RouteStore } from './store/route.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

const longestTitle = 200

/** A chat: a link named by its title, which can be changed in place. */
export function ChatListItem({ chat }: { chat: ChatSummary }) {
  const store = useStore()
  const [isRenaming, setIsRenaming] = useState(false)
  const link = useRef<HTMLAnchorElement>(null)
  const isCurrent = store.route.chatId.value === chat.id
  const title = chat.title ?? strings.chats.untitled
  const titleId = `title-${chat.id}`

  function open(event: MouseEvent) {
    // The browser opens other windows itself.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return
    event.preventDefault()
    store.open(chat.id)
  }

  function remove() {
    const next = store.chats.neighbour(chat.id, 1) ?? store.chats.neighbour(chat.id, -1)
    store.chats.delete(chat)
    if (isCurrent) store.open(next?.id)
  }

  function finish(newTitle: string | undefined) {
    setIsRenaming(false)
    if (newTitle && newTitle !== chat.title) void store.chats.rename(chat.id, newTitle)
    // The link is there again after the next rendering.
    requestAnimationFrame(() => link.current?.focus())
  }

  if (isRenaming) {
    return (
      <li data-current={isCurrent || undefined}>
        <TitleField title={chat.title ?? ''} onEnd={finish} />
      </li>
    )
  }
  return (
    <li data-current={isCurrent || undefined}>
      <a
        ref={link}
        id={titleId}
        href={RouteStore.address(chat.id)}
        aria-current={isCurrent ? 'page' : undefined}
        title={title}
        onClick={open}
        onDblClick={() => setIsRenaming(true)}
        onKeyDown={({ key }) => {
          if (key === 'F2') setIsRenaming(true)
          if (key === 'Delete') remove()
        }}
      >
        <bdi>{title}</bdi>
      </a>
      <span class="item-actions">
        <button
          type="button"
          class="icon-button"
          aria-label={strings.chats.rename}
          aria-describedby={titleId}
          onClick={() => setIsRenaming(true)}
        >
          <RenameIcon />
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label={strings.chats.delete}
          aria-describedby={titleId}
          onClick={remove}
        >
          <DeleteIcon />
        </button>
      </span>
    </li>
  )
}

/** @param onEnd called once, with the new title or, when it is left as it was, without. */
function TitleField({
  title,
  onEnd,
}: {
  title: string
  onEnd: (title: string | undefined) => void
}) {
  const field = useRef<HTMLInputElement>(null)
  const hasEnded = useRef(false)
  // Before the next key comes.
  useLayoutEffect(() => {
    field.current?.focus()
    field.current?.select()
  }, [])

  function end(newTitle: string | undefined) {
    if (hasEnded.current) return
    hasEnded.current = true
    onEnd(newTitle)
  }

  return (
    <input
      ref={field}
      class="title-field"
      aria-label={strings.chats.renameField}
      dir="auto"
      maxLength={longestTitle}
      defaultValue={title}
      onBlur={({ currentTarget }) => end(currentTarget.value.trim())}
      onKeyDown={(event) => {
        if (event.isComposing) return
        if (event.key === 'Enter') end(event.currentTarget.value.trim())
        if (event.key !== 'Escape') return
        event.preventDefault()
        event.stopPropagation()
        end(undefined)
      }}
    />
  )
}
