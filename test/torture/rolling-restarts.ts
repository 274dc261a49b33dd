import { randomBytes } from 'node:crypto'
import { startBalancer } from '../services/balancer.js'
import { startStandIn } from '../services/ollama-stand-in.js'
import { Caller } from './caller.js'
import { Conversation } from './conversation.js'
import { MortalServer } from './processes.js'
import { between, type Settings, type Trial } from './trial.js'

const servers = 3
const users = 6

/**
 * Three servers behind a balancer are ended as operators do and started anew, one after the other,
 * while clients send, read and stop: nothing is lost, doubled, or interrupted.
 * @param settings name the database and the cache that the servers share.
 */
export async function rollingRestarts(trial: Trial, count: number, settings: Settings) {
  const standIn = await startStandIn()
  trial.teardown(() => standIn.close())
  const shared = {
    OLLAMA_API_URL: standIn.url,
    OLLAMA_MAX_CONCURRENT: '8',
    JWT_SECRET: randomBytes(32).toString('hex'),
    ...settings,
  }
  const cluster = await Promise.all(
    Array.from({ length: servers }, () => MortalServer.start(trial, shared)),
  )
  const balancer = await startBalancer(cluster.map(({ url }) => url))
  trial.teardown(() => balancer.close())
  const callers = await Promise.all(
    Array.from({ length: users }, () => Caller.register(trial, balancer.url)),
  )
  const conversations = await Promise.all(
    callers.map((caller) => Conversation.begin(trial, caller)),
  )
  let restarting = true

  async function restartInTurn() {
    for (let done = 0; done < count; done += 1) {
      const server = cluster[done % servers]
      await trial.pause(between(trial.random, 0, 1000))
      await server?.end()
      await server?.start()
      trial.count('restarts')
      trial.progress(done + 1, count)
    }
  }

  await Promise.all([
    restartInTurn().finally(() => {
      restarting = false
    }),
    ...conversations.map((conversation) => conversation.run(() => restarting)),
  ])
  await Promise.all(conversations.map((conversation) => conversation.settle(standIn.calls)))
  const { interrupted = 0 } = trial.figures
  trial.check(interrupted === 0, 'a restart interrupted replies', { interrupted })
  for (const server of cluster) await server.end()
}
