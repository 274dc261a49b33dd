import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { AccountMenu } from './account-menu.js'
import { CloseIcon, PlusIcon } from './icons.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** Where the window is too narrow for it, the sidebar lies over the chat. */
const narrow = window.matchMedia('(max-width: 50rem)')

/** New chat, the list of chats, and the account. */
export function Sidebar({ children }: { children: ComponentChildren }) {
  const store = useStore()
  const { look } = store
  const sidebar = useRef<HTMLElement>(null)
  const isOpen = look.isListOpen.value

  useEffect(() => {
    const close = () => {
      look.isListOpen.value = false
    }
    narrow.addEventListener('change', close)
    return () => narrow.removeEventListener('change', close)
  }, [look])
  useEffect(() => {
    if (isOpen) sidebar.current?.querySelector<HTMLElement>('button, a')?.focus()
  }, [isOpen])

  return (
    <>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: a second way to close it, beside the button */}
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it too */}
      <div
        class="scrim"
        data-open={isOpen || undefined}
        onClick={() => {
          look.isListOpen.value = false
        }}
      />
      <nav
        class="sidebar"
        ref={sidebar}
        aria-label={strings.chats.heading}
        data-open={isOpen || undefined}
      >
        <div class="sidebar-head">
          <p class="brand">{strings.product}</p>
          <button
            type="button"
            class="icon-button only-narrow"
            aria-label={strings.chats.close}
            onClick={() => {
              look.isListOpen.value = false
              // It can take the focus once nothing lies over it.
              requestAnimationFrame(() => document.getElementById('open-list')?.focus())
            }}
          >
            <CloseIcon />
          </button>
        </div>
        <button type="button" class="new-chat" onClick={() => store.open(undefined)}>
          <PlusIcon />
          {strings.chats.newChat}
        </button>
        {children}
        <AccountMenu />
      </nav>
    </>
  )
}
