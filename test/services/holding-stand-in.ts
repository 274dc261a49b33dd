import { never, standInModel, startStandIn } from './ollama-stand-in.js'
import { deterministic } from './stand-in-script.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** Settings of a server whose Ollama may be silent for as long as the test likes. */
export const patient = { OLLAMA_IDLE_TIMEOUT_MS: '600000' }

/**
 * An Ollama whose replies stop after forty tokens until `letGo` is called, so that the server that
 * asked for them can be killed in their middle, however busy the machine is.
 */
export async function startHolding(t: Teardown, continues = true) {
  let isHolding = true
  const standIn = await startStandIn({
    models: [{ ...standInModel, continues }],
    script: async function* (body, model) {
      let tokens = 0
      for await (const step of deterministic(body, model)) {
        yield step
        // Steps that only wait are no tokens; how many there are depends on the machine.
        if (isHolding && !('wait' in step) && ++tokens === 40) yield { wait: never }
      }
    },
  })
  t.teardown(() => standIn.close())
  const letGo = () => {
    isHolding = false
  }
  return { standIn, letGo }
}
