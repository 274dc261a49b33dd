import { setTimeout as delay } from 'node:timers/promises'
import type { Bench, SideName } from '../bench.js'
import { type Figure, row } from '../figure.js'
import type { Server } from '../processes.js'
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

/** Replies of megabytes, so that the kernel's buffers of who does not read are full soon. */
const flood = { rate: 20, tokens: 400, bytes: 8000, spreadMs: 0 }

/** @returns the most that the process holds while replies are streamed, in bytes. */
async function mostWhileFlooded(bench: Bench, server: Server): Promise<number> {
  await bench.load.say('ours', flood)
  let most = server.memory()
  const until = performance.now() + bench.size(20_000, 500)
  while (performance.now() < until) {
    await delay(lookEveryMs)
    most = Math.max(most, server.memory())
  }
  await finish(bench, 'ours')
  return most
}

/**
 * Megabytes that the process grows by while 1,000 sockets do not read what they are sent, beyond
 * what the same replies take when nobody else is there.
 */
async function growthBySlowSockets(bench: Bench): Promise<number> {
  const server = await bench.restart('ours')
  // A user has 100 sockets at most.
  const chats = bench.size(20, 2)
  await openConversations(bench, 'ours', chats)
  const before = await mostWhileFlooded(bench, server)
  await openConversations(bench, 'ours', chats, bench.size(51, 5))
  await bench.load.pauseOthers('ours')
  const most = await mostWhileFlooded(bench, server)
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
      return [row({ name, unit: 'KB', ours, rival, goal: { of: 'ratio', atMost: 1.3 } })]
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
      return [row({ name, unit: 'MB', ours, goal: { of: 'ours', atMost: 150 } })]
    },
  },
]
