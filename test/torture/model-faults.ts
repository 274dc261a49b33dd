import type { Message } from '../../schemas/messages.js'
import { Arena } from './arena.js'
import type { ArenaChat } from './arena-chat.js'
import type { Entry } from './ledger.js'
import { down, type Fault, faultyScript, saidBefore, table } from './model-fault-table.js'
import { between, type Settings, type Trial } from './trial.js'

/** Users at once; fewer replies run at once, so that a slot that is not given back is missed. */
const lanes = 6
const placesAtModel = 3
const faultsPerRound = 50
const names = Object.keys(table)

/**
 * Every way in which Ollama fails: each ends in one typed terminal record, told once and stored as
 * it was told, with the text that came before; the connection is closed and the place given back.
 */
export async function modelFaults(trial: Trial, count: number, settings: Settings): Promise<void> {
  const timeouts = { OLLAMA_FIRST_TOKEN_TIMEOUT_MS: '500', OLLAMA_IDLE_TIMEOUT_MS: '300' }
  const { server, standIn, arenas } = await Arena.open(
    trial,
    lanes,
    { ...timeouts, OLLAMA_MAX_CONCURRENT: `${placesAtModel}`, ...settings },
    faultyScript(trial.fork()),
  )
  const everybody = (name: string) => Promise.all(arenas.map((arena) => suffer(arena, [name])))
  let done = 0

  async function lane(arena: Arena, until: number): Promise<void> {
    while (done < until) {
      const chosen: string[] = []
      for (let left = between(arena.random, 1, 3); left > 0 && done < until; left -= 1) {
        chosen.push(names[done % names.length] ?? 'none')
        done += 1
      }
      await suffer(arena, chosen)
    }
  }

  while (done < count) {
    const until = Math.min(done + faultsPerRound, count)
    await Promise.all(arenas.map((arena) => lane(arena, until)))
    await standIn.stop()
    await everybody('down')
    await standIn.restart()
    await everybody('none')
    trial.progress(done, count)
  }
  await server.end()
}

/** One chat in which the model fails so, one reply after the other. */
async function suffer(arena: Arena, faults: readonly string[]): Promise<void> {
  const chat = await arena.newChat({ mayEnd: ['error'] })
  const sent = []
  for (const name of faults) {
    const fault = table[name] ?? down
    const entry = plan(arena, chat, name, fault)
    await send(arena, chat, entry, fault)
    sent.push({ name, fault, entry })
  }
  const stored = await chat.settle()
  for (const { name, fault, entry } of sent) {
    const at = stored.findIndex(({ content }) => content === entry.content)
    verify(arena, name, fault, entry, stored[at + 1])
  }
  await arena.modelIsFree(sent.map(({ entry }) => entry.content))
}

function plan(arena: Arena, chat: ArenaChat, name: string, { code, after }: Fault): Entry {
  const good = after === 'nothing' ? 0 : arena.random.upTo(40)
  const entry = chat.ledger.plan(`fault=${name} after=${good} ${arena.prompt(0)}`)
  if (code !== undefined) {
    entry.said = after === 'nothing' ? '' : saidBefore(entry.content, good)
  }
  return entry
}

/** Sends it in any way; the one that waits for the whole reply is refused with what it failed of. */
async function send(arena: Arena, chat: ArenaChat, entry: Entry, fault: Fault): Promise<void> {
  const way = arena.anyWay()
  const { refused } = await chat.send(entry, way)
  if (!refused) return
  const { status, code, replyId } = refused
  const right =
    way === 'whole' &&
    replyId !== undefined &&
    code === fault.code &&
    status === (code === 'MODEL_TIMEOUT' ? 504 : 502)
  arena.trial.check(right, 'a message was refused wrongly', { way, fault, refused })
  entry.replyId = replyId
}

function verify(arena: Arena, name: string, fault: Fault, entry: Entry, reply?: Message): void {
  const { code, after } = fault
  const all = after === 'some, which may be lost' || reply?.content === entry.said
  const right = code === undefined ? reply?.status === 'complete' : reply?.status === 'error'
  const typed = reply?.error?.code === code
  arena.trial.check(all && right && typed, 'a fault ended wrongly', { name, fault, entry, reply })
  arena.trial.count(name)
}
