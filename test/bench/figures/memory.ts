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

/** Replies of megabytes, so that the kernel's buffers of who does not read are full soon. */
const flood = { rate: 20, tokens: 400, bytes: 8000, spreadMs: 0 }

/**
 * The most that a new process of ours holds while replies of megabytes are streamed and end, in bytes.
 * Another flood in the same process would begin with the heap that the first one's ends have left.
 * @param slowSockets how many sockets of each chat do not read what they are sent.
 */
async function mostWhileFlooded(bench: Bench, slowSockets: number): Promise<number> {
  const server = await bench.restart('ours')
  // A user has 100 sockets at most.
  await openConversations(bench, 'ours', bench.size(20, 2), 1 + slowSockets)
  await bench.load.pauseOthers('ours')
  await bench.load.say('ours', flood)
  let most = 0
  let isOver = false
  const end = async () => {
    await delay(bench.size(20_000, 500))
    await finish(bench, 'ours').finally(() => {
      isOver = true
    })
  }
  const look = async () => {
    while (!isOver) {
      most = Math.max(most, server.memory())
      await delay(lookEveryMs)
    }
  }
  await Promise.all([end(), look()])
  await bench.load.close('ours')
  return most
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
      const sides = ['with', 'without'] as const
      const { with: ours, without: rival } = await interleave(
        bench,
        'slow sockets',
        sides,
        async (side) =>
          (await mostWhileFlooded(bench, side === 'with' ? bench.size(50, 4) : 0)) / 1e6,
      )
      return [
        row({
          name: 'memory with 1,000 slow sockets, against the same replies without',
          ...{ unit: 'MB', ours, rival, goal: { of: 'more', atMost: 150 } },
        }),
      ]
    },
  },
]
