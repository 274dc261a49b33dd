import { setTimeout as delay } from 'node:timers/promises'
import type { Bench, SideName } from '../bench.js'
import { type Figure, row } from '../figure.js'
import { finish, interleave, openConversations } from '../token-run.js'

const settleMs = 3000
const lookEveryMs = 100

/** Bytes that a server's process grows by for each socket that does nothing. */
async function bytesPerSocket(bench: Bench, side: SideName, sockets: number) {
  const server = await bench.restart(side)
  const { accounts } = await bench.seed()
  const tokens = accounts.map(({ token }) => token)
  // What the first sockets need once is not what each needs.
  await bench.load.idle(server.url, tokens, bench.size(100, 5))
  await delay(bench.size(settleMs, 50))
  const before = server.memory()
  await bench.load.idle(server.url, tokens, sockets)
  await delay(bench.size(settleMs, 50))
  const grown = server.memory() - before
  await bench.load.closeIdle()
  return grown / sockets
}

/** Megabytes that the process grows by while 1,000 sockets do not read what they are sent. */
async function growthBySlowSockets(bench: Bench): Promise<number> {
  const server = await bench.restart('ours')
  await openConversations(bench, 'ours', bench.size(10, 2), bench.size(101, 5))
  const before = server.memory()
  let most = before
  await bench.load.pauseOthers('ours')
  await bench.load.say('ours', { rate: 20, tokens: 400, bytes: 8000, spreadMs: 0 })
  const until = performance.now() + bench.size(20_000, 500)
  while (performance.now() < until) {
    most = Math.max(most, server.memory())
    await delay(lookEveryMs)
  }
  await finish(bench, 'ours')
  await bench.load.close('ours')
  return (most - before) / 1e6
}

export const memoryFigures: Figure[] = [
  {
    name: 'idle',
    async measure(bench) {
      const sockets = bench.size(4000, 50)
      const sides = ['ours', 'socketio'] as const
      const results = await interleave(bench, 'idle sockets', sides, async (side) => {
        return (await bytesPerSocket(bench, side, sockets)) / 1000
      })
      const { ours, socketio: rival } = results
      const name = 'memory of an idle socket, against bare socket.io'
      return [row({ name, unit: 'KB', ours, rival, goal: { of: 'ratio', atMost: 1.1 } })]
    },
  },
  {
    name: 'slow',
    async measure(bench) {
      const sides = ['ours'] as const
      const { ours } = await interleave(bench, 'slow sockets', sides, () =>
        growthBySlowSockets(bench),
      )
      const name = 'the process grows with 1,000 slow sockets by'
      return [row({ name, unit: 'MB', ours, goal: { of: 'ours', atMost: 100 } })]
    },
  },
]
