import { setTimeout as delay } from 'node:timers/promises'
import type { Bench } from '../bench.js'
import { type Figure, type Row, row } from '../figure.js'
import { createChat, register } from '../seed.js'
import { exponent, median } from '../statistics.js'
import { interleave, openConversations, runTokens } from '../token-run.js'

/** A prompt that fills a small window, so that a longer chat brings no longer context. */
const prompt = { rate: 1000, tokens: 1, padding: 'more words to fill the window with '.repeat(8) }
const options = { num_ctx: 256 }
const turnsMeasured = 100
/** So often a chat's user sends while the chat is made: a user has 6,000 requests a minute. */
const turnMs = 11

/** How often the product is measured at one size. */
async function perSize(
  bench: Bench,
  what: string,
  sizes: readonly number[],
  measure: (size: number) => Promise<number>,
): Promise<Map<number, number[]>> {
  const sides = sizes.map(String)
  const results = await interleave(bench, what, sides, (side) => measure(Number(side)))
  return new Map(sizes.map((size) => [size, results[size] ?? []]))
}

/** A line for each size, and the exponent that is fitted to them. */
function table(what: string, of: string, unit: string, sizes: Map<number, number[]>): Row[] {
  const points = [...sizes].map(([size, values]) => [size, median(values)] as const)
  return [
    ...[...sizes].map(([size, ours]) => row({ name: `${what}, ${size} ${of}`, unit, ours })),
    row({ name: `${what}, exponent of ${of}`, unit: '', ours: [exponent(points)] }),
  ]
}

interface Chats {
  /** Of their group. */
  name: string
  count: number
}

/** Makes chats of a length, by turns; more of short ones, as each turn makes its chat longer. */
async function openChats(bench: Bench, messages: number): Promise<Chats> {
  const server = await bench.server('ours')
  const name = `chats-${messages}`
  const count = Math.ceil(Math.min(bench.size(turnsMeasured, 5), 2000 / messages))
  const slots = []
  for (let n = 0; n < count; n++) {
    const token = await register(server, `${name}-${n}`)
    slots.push({ url: server.url, token, chatId: await createChat(server, token) })
  }
  await bench.load.open(name, { protocol: 'socket', slots, listeners: 1 })
  for (let turns = 0; turns < messages / 2; turns++) {
    await Promise.all([
      bench.load.inTurn(name, { ...prompt, options }),
      delay(bench.size(turnMs, 0)),
    ])
  }
  return { name, count }
}

/** CPU of a turn, in microseconds: a message stored, a reply of one token generated and stored. */
async function cpuPerTurn(bench: Bench, { name, count }: Chats): Promise<number> {
  const server = await bench.server('ours')
  const times = Math.ceil(bench.size(turnsMeasured, 5) / count)
  const used = await bench.observe(server, async () => {
    for (let n = 0; n < times; n++) await bench.load.inTurn(name, { ...prompt, options })
  })
  return (used.cpuSeconds * 1e6) / (times * count)
}

/** The rounds of one size against those of another. */
function against(name: string, sizes: Map<number, number[]>, size: number, other: number): Row {
  const [ours = [], rival = []] = [sizes.get(size), sizes.get(other)]
  return row({ name, unit: 'µs', ours, rival, goal: { of: 'ratio', atMost: 1.1 } })
}

export const growthFigures: Figure[] = [
  {
    name: 'chat-length',
    async measure(bench) {
      const lengths = bench.options.smoke ? [4, 8] : [10, 100, 2000, 10_000]
      const chats = new Map<number, Chats>()
      for (const length of lengths) {
        bench.progress(`making chats of ${length} messages`)
        chats.set(length, await openChats(bench, length))
      }
      const sizes = await perSize(bench, 'chat length', lengths, (length) =>
        cpuPerTurn(bench, chats.get(length) ?? { name: '', count: 0 }),
      )
      const [least = 0, , middle = 0, most = 0] = lengths
      return [
        against('CPU of a turn in a chat of 2,000 messages against 10', sizes, middle, least),
        against('CPU of a turn in a chat of 10,000 messages against 10', sizes, most, least),
        ...table('CPU of a turn', 'messages', 'µs', sizes),
      ]
    },
  },
  {
    name: 'growth-sockets',
    async measure(bench) {
      const run = { streams: bench.size(50, 5), rate: 40 }
      await openConversations(bench, 'ours', run.streams)
      const { accounts } = await bench.seed()
      const tokens = accounts.map(({ token }) => token)
      const counts = bench.options.smoke ? [1, 10] : [1, 10, 100, 1000, 10_000]
      const sizes = await perSize(bench, 'sockets', counts, async (count) => {
        await bench.load.idle((await bench.server('ours')).url, tokens, count)
        const { cpuUs } = await runTokens(bench, 'ours', run)
        await bench.load.closeIdle()
        return cpuUs
      })
      return table('CPU per token beside idle sockets', 'sockets', 'µs', sizes)
    },
  },
  {
    name: 'growth-streams',
    async measure(bench) {
      const counts = bench.options.smoke ? [1, 5] : [1, 10, 100, 500]
      await openConversations(bench, 'ours', counts.at(-1) ?? 1)
      const sizes = await perSize(bench, 'streams', counts, async (streams) => {
        // Few tokens are counted for longer: the system counts hundredths of a second.
        const run = { streams, rate: 20, windowMs: streams < 100 ? 12_000 : 4000 }
        return (await runTokens(bench, 'ours', run)).cpuUs
      })
      return table('CPU per token', 'streams', 'µs', sizes)
    },
  },
]
