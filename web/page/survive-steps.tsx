import type { ComponentChildren } from 'preact'
import { Command } from './command.js'
import { RouteStore } from './store/route.js'
import { type Store, useStore } from './store/store.js'
import { strings } from './strings.js'
import { withCode } from './with-code.js'

interface Step {
  isDone: boolean
  text: ComponentChildren
}

const text = strings.survive

/** The steps in which a reply outlives its server. */
export function stepsOf({ survival, route }: Store): Step[] {
  const chatId = route.chatId.value
  return [
    {
      isDone: survival.hasWindow.value,
      text: (
        <>
          {text.steps.window}{' '}
          {chatId !== undefined && (
            <a href={RouteStore.address(chatId)} target="_blank" rel="noopener">
              {text.steps.windowAction}
            </a>
          )}
        </>
      ),
    },
    { isDone: survival.hasAsked.value, text: text.steps.ask },
    {
      isDone: survival.wasKilled.value,
      text: (
        <>
          {text.steps.kill} <Command text={text.killCommand} />
        </>
      ),
    },
    {
      isDone: survival.isBack.value,
      text: (
        <>
          {text.steps.start} <Command text={text.startCommand} />
        </>
      ),
    },
  ]
}

/** All steps, for a beginning. */
export function SurviveSteps() {
  const store = useStore()
  if (!store.survival.isShown.value) return <ShowSurvive />
  return (
    <section class="survive" aria-labelledby="survive">
      <h2 id="survive">{text.heading}</h2>
      <p>{text.lead}</p>
      <ol>
        {stepsOf(store).map((step, index) => (
          <li key={index} data-done={step.isDone || undefined}>
            {step.text}
            {step.isDone && <span class="hidden"> ({text.done})</span>}
          </li>
        ))}
      </ol>
      {store.models.isEliza.value && <p class="hint">{withCode(text.slower)}</p>}
    </section>
  )
}

function ShowSurvive() {
  const { survival } = useStore()
  return (
    <button
      type="button"
      class="quiet show-survive"
      onClick={() => {
        survival.isShown.value = true
      }}
    >
      {text.show}
    </button>
  )
}
