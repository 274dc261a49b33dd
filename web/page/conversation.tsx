import { Component } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { Message } from '../client/index.js'
import { ErrorNote } from './error-note.js'
import { DownIcon } from './icons.js'
import { OwnMessage } from './own-message.js'
import { PendingMessages } from './pending-messages.js'
import { Reply } from './reply.js'
import { useStore } from './store/store.js'
import type { Thread } from './store/thread.js'
import { strings } from './strings.js'

/** Nearer to the end than this one is at it, in pixels. */
const atEndPx = 48
/** How far ahead earlier messages are loaded, in pixels. */
const aheadPx = 1200
/** Messages are rendered in groups, so that a change in one leaves the others alone. */
const groupSize = 32

/** The messages of a chat. It follows the reply only for who is at the end. */
export function Conversation({ thread }: { thread: Thread }) {
  const { pending, focusComposer } = useStore()
  const scroller = useRef<HTMLElement>(null)
  const content = useRef<HTMLDivElement>(null)
  const isFollowing = useRef(true)
  const lastTop = useRef(0)
  const [isAway, setIsAway] = useState(false)
  const messages = thread.messages.value
  const first = messages[0]?.id
  const waiting = pending.value.length

  const toEnd = () => {
    isFollowing.current = true
    setIsAway(false)
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight })
  }

  const loadAhead = () => {
    const element = scroller.current
    if (element && element.scrollTop < aheadPx) void thread.loadOlder()
  }

  const onScroll = () => {
    const element = scroller.current
    if (!element) return
    const { scrollTop, scrollHeight, clientHeight } = element
    if (scrollHeight - scrollTop - clientHeight < atEndPx) isFollowing.current = true
    // Only a person scrolls up; what grows below leaves the position alone.
    else if (scrollTop < lastTop.current) isFollowing.current = false
    lastTop.current = scrollTop
    setIsAway(!isFollowing.current)
    loadAhead()
  }

  useEffect(() => {
    const follow = new ResizeObserver(() => {
      const element = scroller.current
      if (isFollowing.current && element) element.scrollTop = element.scrollHeight
    })
    for (const element of [scroller.current, content.current]) {
      if (element) follow.observe(element)
    }
    return () => follow.disconnect()
  }, [])

  useEffect(() => {
    if (waiting > 0) toEnd()
  }, [waiting])

  // Earlier messages come above what is read, which stays where it is.
  const anchor = useAnchor(scroller.current, first)
  useLayoutEffect(() => {
    if (scroller.current) scroller.current.scrollTop += anchor()
  }, [first])
  useEffect(loadAhead, [messages, thread.hasOlder.value])

  const state = thread.state.value
  const error = thread.error.value
  return (
    <>
      {/* It takes the focus, since it scrolls by keyboard too. */}
      <section
        class="scroller"
        ref={scroller}
        tabIndex={0}
        aria-label={strings.conversation.label}
        onScroll={onScroll}
      >
        <div class="column" ref={content}>
          {thread.isLoadingOlder.value && <p class="hint">{strings.conversation.loadingOlder}</p>}
          {groups(messages).map((group) => (
            <Group key={group.key} thread={thread} messages={group.messages} />
          ))}
          <PendingMessages />
          {(state === 'missing' || state === 'deleted') && <Gone state={state} />}
          {error && <ErrorNote error={error} />}
        </div>
      </section>
      {isAway && (
        <button
          type="button"
          class="to-end"
          onClick={() => {
            toEnd()
            focusComposer.value += 1
          }}
        >
          <DownIcon />
          {strings.conversation.toEnd}
        </button>
      )}
    </>
  )
}

function groups(messages: readonly Message[]) {
  const found: { key: number; messages: Message[] }[] = []
  for (const message of messages) {
    const key = Math.floor(message.seq / groupSize)
    const last = found.at(-1)
    if (last?.key === key) last.messages.push(message)
    else found.push({ key, messages: [message] })
  }
  return found
}

interface GroupProps {
  thread: Thread
  messages: readonly Message[]
}

class Group extends Component<GroupProps> {
  override shouldComponentUpdate({ messages }: GroupProps): boolean {
    const before = this.props.messages
    return (
      messages.length !== before.length || messages.some((message, at) => message !== before[at])
    )
  }

  override render({ thread, messages }: GroupProps) {
    return (
      <div class="group">
        {messages.map((message) =>
          message.role === 'user' ? (
            <OwnMessage key={message.id} message={message} />
          ) : (
            <Reply key={message.id} thread={thread} message={message} />
          ),
        )}
      </div>
    )
  }
}

/** How far what is read has moved, when something else comes first now. */
function useAnchor(scroller: HTMLElement | null, first: string | undefined) {
  const before = useRef(first)
  const anchor = before.current === first ? undefined : firstInSight(scroller)
  const top = anchor?.getBoundingClientRect().top ?? 0
  before.current = first
  return () => (anchor?.isConnected ? anchor.getBoundingClientRect().top - top : 0)
}

function firstInSight(scroller: HTMLElement | null): Element | undefined {
  const edge = scroller?.getBoundingClientRect().top ?? 0
  const isInSight = (element: Element) => element.getBoundingClientRect().bottom > edge
  const group = [...(scroller?.querySelectorAll('.group') ?? [])].find(isInSight)
  return [...(group?.children ?? [])].find(isInSight)
}

function Gone({ state }: { state: 'missing' | 'deleted' }) {
  const store = useStore()
  const { notFound, deletedElsewhere, toNewChat } = strings.conversation
  return (
    <div class="gone" role="status">
      <p>{state === 'missing' ? notFound : deletedElsewhere}</p>
      <button type="button" onClick={() => store.open(undefined)}>
        {toNewChat}
      </button>
    </div>
  )
}
