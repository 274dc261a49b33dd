import { useId, useLayoutEffect, useRef } from 'preact/hooks'
import { ErrorNote } from './error-note.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

const longestContent = 100_000

/** Where messages are written, sent, and their replies stopped. */
export function Composer() {
  const store = useStore()
  const { thread, sendError, route, focusComposer } = store
  const draft = store.draft.value
  const field = useRef<HTMLTextAreaElement>(null)
  const hintId = useId()
  const length = draft.value.trim().length
  const isTooLong = length > longestContent
  const running = thread.value?.running.value
  const error = sendError.value
  const text = strings.composer

  useLayoutEffect(() => {
    // A phone would open its keyboard over the conversation.
    if (window.matchMedia('(pointer: fine)').matches) field.current?.focus()
  }, [focusComposer.value])

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault()
        store.send()
      }}
    >
      <div role="alert">
        {error && error.chatId === route.chatId.value && (
          <>
            <strong>{text.notSent}</strong>
            <ErrorNote error={error.error} />
          </>
        )}
        {isTooLong && <p class="fault">{text.tooLong(length)}</p>}
      </div>
      <div class="composer-box">
        <label class="hidden" for="message">
          {text.message}
        </label>
        <textarea
          id="message"
          ref={field}
          rows={1}
          dir="auto"
          placeholder={text.placeholder}
          aria-describedby={hintId}
          aria-invalid={isTooLong}
          value={draft.value}
          onInput={({ currentTarget }) => {
            draft.value = currentTarget.value
          }}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
            event.preventDefault()
            store.send()
          }}
        />
        <div class="composer-actions">
          {running && (
            <button
              type="button"
              aria-disabled={thread.value?.isStopping.value}
              onClick={() => {
                void thread.value?.stop()
                field.current?.focus()
              }}
            >
              {text.stop}
            </button>
          )}
          <button type="submit" class="primary" aria-disabled={length === 0 || isTooLong}>
            {text.send}
          </button>
        </div>
      </div>
      <p class="hint" id={hintId}>
        {text.hint}
      </p>
    </form>
  )
}
