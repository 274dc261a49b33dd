import { MongoClient } from 'mongodb'
import type { Bench } from '../bench.js'
import { type Figure, row, unmeasured } from '../figure.js'
import { createChat, register } from '../seed.js'
import { interleave, notesOn, runTokens } from '../token-run.js'

const sides = ['other', 'shared'] as const

/** The latency of a token for a socket on another server than the reply's, against one on its own. */
export const otherServerFigures: Figure[] = [
  {
    name: 'other-server',
    async measure(bench: Bench) {
      const [name, unit] = ['20×50 heard at another server: token latency', 'ms']
      const { MONGODB_URI, REDIS_URL } = process.env
      if (!MONGODB_URI || !REDIS_URL) {
        return [unmeasured(`${name} p99`, unit, 'not measured: no MONGODB_URI and REDIS_URL')]
      }
      try {
        const run = { streams: bench.size(20, 2), rate: 50, stampEvery: 1 }
        await openChats(bench, run.streams)
        const results = await interleave(bench, name, sides, (side) => runTokens(bench, side, run))
        const note = notesOn(results)
        return (['p50', 'p99'] as const).map((share) =>
          row({
            name: `${name} ${share}, against one at the reply's own`,
            unit,
            ours: results.other.map(({ latency }) => latency[share]),
            rival: results.shared.map(({ latency }) => latency[share]),
            goal: share === 'p99' ? { of: 'more', atMost: 10 } : undefined,
            note,
          }),
        )
      } finally {
        await bench.stopServers()
        const client = new MongoClient(bench.sharedDatabase())
        await client.db().dropDatabase()
        await client.close()
      }
    },
  },
]

/** Every message is sent to one server; one group hears there, the other at the second server. */
async function openChats(bench: Bench, count: number): Promise<void> {
  const own = await bench.server('shared')
  const other = await bench.server('other')
  for (const side of sides) {
    const slots = []
    for (let n = 0; n < count; n++) {
      const token = await register(own, `${side}${n}`)
      const chatId = await createChat(own, token)
      slots.push({ url: own.url, token, chatId, ...(side === 'other' && { hearAt: other.url }) })
    }
    await bench.load.open(side, { protocol: 'socket', slots, listeners: 1 })
  }
}
