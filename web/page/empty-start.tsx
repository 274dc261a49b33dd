import { Command } from './command.js'
import { ErrorNote } from './error-note.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'
import { SurviveSteps } from './survive-steps.js'

/** What a new chat shows: who answers, how to connect one's own models, and something to begin with. */
export function EmptyStart() {
  const store = useStore()
  const { models, focusComposer } = store
  const text = strings.start
  const error = models.error.value
  return (
    <section class="scroller" aria-label={text.heading}>
      <div class="column empty-start">
        <h2>{text.heading}</h2>
        <ul class="prompts">
          {text.prompts.map((prompt) => (
            <li key={prompt}>
              <button
                type="button"
                onClick={() => {
                  store.draft.value.value = prompt
                  focusComposer.value += 1
                }}
              >
                {prompt}
              </button>
            </li>
          ))}
        </ul>
        {models.isEliza.value && (
          <div class="aside">
            <p>{text.eliza}</p>
            <p>{text.connect}</p>
            <Command text={text.command} />
          </div>
        )}
        {models.list.value?.length === 0 && (
          <div class="aside">
            <p>{text.noModels}</p>
            <Command text={text.pull} />
          </div>
        )}
        {error && (
          <div class="aside">
            <ErrorNote error={error}>
              <button type="button" onClick={() => void models.load()}>
                {strings.conversation.tryAgain}
              </button>
            </ErrorNote>
          </div>
        )}
        <SurviveSteps />
      </div>
    </section>
  )
}
