import { startStandIn } from '../services/ollama-stand-in.js'
import { Caller } from './caller.js'
import { Conversation } from './conversation.js'
import { MortalServer } from './processes.js'
import { between, type Settings, type Trial } from './trial.js'

const users = 6
/** After so many, all is held against what the clients were told. */
const killsPerRound = 25

/**
 * The server is killed at random moments, also while it starts, while clients send, read and stop:
 * every acknowledged message is stored once, every reply ends once and as it was told, and each
 * chat keeps its order.
 */
export async function kills(trial: Trial, count: number, settings: Settings): Promise<void> {
  const standIn = await startStandIn()
  trial.teardown(() => standIn.close())
  const server = await MortalServer.start(trial, {
    OLLAMA_API_URL: standIn.url,
    OLLAMA_MAX_CONCURRENT: '8',
    LEASE_MS: '1000',
    ...settings,
  })
  const callers = await Promise.all(
    Array.from({ length: users }, () => Caller.register(trial, server.url)),
  )

  async function kill(times: number): Promise<void> {
    for (let done = 0; done < times; ) {
      // On a slow machine clients, too, are slow to come back.
      await trial.pause(between(trial.random, 0, Math.max(1200, server.startMs)))
      await server.kill()
      done += 1
      while (done < times && trial.random.chance(0.2)) {
        await server.startAndKill()
        done += 1
      }
      await server.start()
    }
  }

  for (let done = 0; done < count; ) {
    const times = Math.min(killsPerRound, count - done)
    const conversations = await Promise.all(
      callers.map((caller) => Conversation.begin(trial, caller)),
    )
    let killing = true
    await Promise.all([
      kill(times).finally(() => {
        killing = false
      }),
      ...conversations.map((conversation) => conversation.run(() => killing)),
    ])
    await Promise.all(conversations.map((conversation) => conversation.settle(standIn.calls)))
    standIn.calls.length = 0
    done += times
    trial.count('kills', times)
    trial.progress(done, count)
  }
  await server.end()
}
