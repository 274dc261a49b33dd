import type { Bench } from '../bench.js'
import { type Figure, row } from '../figure.js'
import { register, someAddress } from '../seed.js'
import { interleave, openConversations, runTokens } from '../token-run.js'

const path = '/api/auth/login'
const connections = 20

/** The p99 between texts of running streams, in milliseconds, with logins or without. */
async function gap(bench: Bench, withLogins: boolean) {
  const server = await bench.server('ours')
  const run = { streams: bench.size(50, 5), rate: 20 }
  // The storm lasts until the streams were measured.
  const ms = bench.size(13_000, 1000)
  const login = { username: 'stormed', password: 'correct horse' }
  // As many addresses as their limits let storm.
  const requests = Array.from({ length: 1000 }, () => ({ path, address: someAddress() }))
  const body = JSON.stringify(login)
  const load = { url: server.url, requests, method: 'POST', body, connections }
  const storm = withLogins ? bench.load.http({ ...load, ms }) : undefined
  const [result, heard] = await Promise.all([runTokens(bench, 'ours', run), storm])
  return { gap: result.gap.p99, logins: heard ? heard.answers / (heard.ms / 1000) : 0 }
}

export const stormFigures: Figure[] = [
  {
    name: 'storm',
    async measure(bench) {
      await openConversations(bench, 'ours', bench.size(50, 5))
      const server = await bench.server('ours')
      // Its password is hashed as production does it; those of the seed are not.
      await register(server, 'stormed')
      const sides = ['storm', 'calm'] as const
      const { storm, calm } = await interleave(bench, 'login storm', sides, (side) =>
        gap(bench, side === 'storm'),
      )
      const logins = Math.round(storm.reduce((sum, round) => sum + round.logins, 0) / storm.length)
      return [
        row({
          name: 'gap between tokens, 50×20, p99, in a login storm, against calm',
          unit: 'ms',
          ours: storm.map((round) => round.gap),
          rival: calm.map((round) => round.gap),
          goal: { of: 'ours', atMost: 100 },
          note: `${logins} logins answered a second`,
        }),
      ]
    },
  },
]
