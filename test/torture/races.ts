import { Arena } from './arena.js'
import { scenarios } from './race-scenarios.js'
import type { Settings, Trial } from './trial.js'

/** Races at once, each of another user. */
const lanes = 4
const progressEvery = 100

/**
 * Each race of race-scenarios.ts in its turn, at moments that are random to a millisecond; whatever
 * comes first, everybody is told the same, once, and it is what is stored.
 */
export async function races(trial: Trial, count: number, settings: Settings): Promise<void> {
  const { server, standIn, arenas } = await Arena.open(trial, lanes, settings)
  let begun = 0
  let done = 0

  async function lane(arena: Arena): Promise<void> {
    while (begun < count) {
      const [name, race] = scenarios[begun % scenarios.length] ?? []
      begun += 1
      await race?.(arena)
      trial.count(`${name}`)
      done += 1
      if (done % progressEvery === 0) trial.progress(done, count)
    }
  }
  await Promise.all(arenas.map(lane))
  // Every place at the model was given back.
  for (const arena of arenas) {
    const chat = await arena.newChat()
    await chat.begin(arena.prompt(0))
    await chat.settle()
  }
  await server.end()
  const open = standIn.calls.filter(({ answered, closed }) => !answered && !closed)
  trial.check(open.length === 0, 'the model is still at work', { open })
}
