import { useStore } from './store/store.js'
import { strings } from './strings.js'
import { stepsOf } from './survive-steps.js'

/** The step that comes next, in one line over the conversation. */
export function SurviveStrip() {
  const store = useStore()
  const { survival } = store
  const text = strings.survive
  if (!survival.isShown.value) return null
  const steps = stepsOf(store)
  const next = steps.findIndex(({ isDone }) => !isDone)
  return (
    <aside class="survive-strip" aria-label={text.heading}>
      <p role="status">
        <strong>{text.heading}</strong>{' '}
        {survival.hasSurvived.value ? (
          text.finished
        ) : (
          <>
            {next >= 0 && <span class="step">{text.step(next + 1, steps.length)}</span>}{' '}
            {next < 0 ? text.goesOn : steps[next]?.text}
          </>
        )}
      </p>
      <button
        type="button"
        class="quiet"
        onClick={() => {
          survival.isShown.value = false
        }}
      >
        {text.hide}
      </button>
    </aside>
  )
}
