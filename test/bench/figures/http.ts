import type { Bench, SideName } from '../bench.js'
import { type Figure, type Row, row } from '../figure.js'
import type { HttpRequest } from '../load/http-load.js'
import { ask } from '../seed.js'
import { interleave } from '../token-run.js'

const connections = 20

type HttpSide = Extract<SideName, 'ours' | 'usual' | 'fastify'>

/**
 * Requests for a second of the server's CPU, which is what a second of one core answers; others
 * who use the machine disturb it less than what a clock would count.
 */
async function requestsPerCore(
  bench: Bench,
  side: SideName,
  requests: HttpRequest[],
): Promise<number> {
  const server = await bench.server(side)
  const ms = bench.size(3000, 200)
  const load = { url: server.url, requests, connections }
  await bench.load.http({ ...load, ms: ms / 3 })
  const used = await bench.observe(server, () => bench.load.http({ ...load, ms }))
  const { answers, others } = used.result
  if (others > 0) {
    throw new Error(`${side}: ${requests[0]?.path} had ${others} answers other than 200`)
  }
  return answers / used.cpuSeconds
}

async function compare(
  bench: Bench,
  what: string,
  requests: HttpRequest[],
  sides: readonly HttpSide[],
) {
  return interleave(bench, what, sides, (side) => requestsPerCore(bench, side, requests))
}

/** The same path, asked by every reader. */
async function byReaders(bench: Bench, path: string): Promise<HttpRequest[]> {
  return (await bench.seed()).readers.map(({ token }) => ({ path, token }))
}

const unit = 'requests/s of a core'

export const httpFigures: Figure[] = [
  {
    name: 'list',
    async measure(bench): Promise<Row[]> {
      const sides = ['ours', 'usual', 'fastify'] as const
      const path = '/api/ai/chats'
      const { ours, usual, fastify } = await compare(
        bench,
        'the chat list',
        await byReaders(bench, path),
        sides,
      )
      // A page after the first is read from the database each time; rivals read their first.
      const server = await bench.server('ours')
      const next: HttpRequest[] = []
      for (const { token } of (await bench.seed()).readers) {
        const first = await ask<{ nextCursor: string }>(server, path, token)
        next.push({ path: `${path}?cursor=${first.nextCursor}`, token })
      }
      const uncached = await compare(bench, 'the chat list, read', next, sides)
      const name = 'chat list by token'
      const ofFastify = { of: 'ratio', atLeast: 0.9 } as const
      return [
        row({
          name: `${name}, against Express and KeyObject`,
          ...{ unit, ours, rival: usual, goal: { of: 'ratio', atLeast: 2 } },
        }),
        row({
          name: `${name}, against bare Fastify`,
          ...{ unit, ours, rival: fastify, goal: ofFastify },
        }),
        row({
          name: `${name}, not from the cache, against Express`,
          ...{ unit, ours: uncached.ours, rival: uncached.usual },
        }),
        row({
          name: `${name}, not from the cache, against bare Fastify`,
          ...{ unit, ours: uncached.ours, rival: uncached.fastify },
        }),
      ]
    },
  },
  {
    name: 'profile',
    async measure(bench) {
      const sides = ['ours', 'usual', 'fastify'] as const
      const path = '/api/auth/profile'
      const requests = await byReaders(bench, path)
      const { ours, usual, fastify } = await compare(bench, 'the profile', requests, sides)
      const name = 'profile by token'
      return [
        row({ name: `${name}, against Express and KeyObject`, unit, ours, rival: usual }),
        row({ name: `${name}, against bare Fastify`, unit, ours, rival: fastify }),
      ]
    },
  },
  {
    name: 'bytes',
    async measure(bench) {
      const { readers } = await bench.seed()
      const { url } = await bench.server('ours')
      const name = 'readers'
      const slots = readers.map((reader) => ({ url, ...reader }))
      await bench.load.open(name, { protocol: 'socket', slots, listeners: 1 })
      const turn = { rate: 10_000, tokens: 60, padding: 'a question of usual length '.repeat(4) }
      for (let n = 0; n < bench.size(100, 5); n++) await bench.load.inTurn(name, turn)
      const list = '/api/ai/chats?limit=100'
      // A page has 100 messages at most: the chat is two of them.
      const chats = readers.map(({ token, chatId }) => ({
        path: `/api/ai/chats/${chatId}?limit=100`,
        token,
      }))
      const lists = await byReaders(bench, list)
      return [
        ...(await sameBytes(bench, 'list of 100 chats', lists)),
        ...(await sameBytes(bench, 'chat of 200, a page', chats)),
      ]
    },
  },
]

/** Ours against the pipe, and against bare Fastify with a token, that serve the same bytes from memory. */
async function sameBytes(bench: Bench, name: string, requests: HttpRequest[]): Promise<Row[]> {
  const [{ path = '', token } = {}] = requests
  const body = JSON.stringify(await ask<object>(await bench.server('ours'), path, token))
  const headers = {
    authorization: `Bearer ${token}`,
    // Fastify would make a string of a text, which costs it more to send.
    'content-type': 'application/octet-stream',
  }
  for (const side of ['pipe', 'fastify'] as const) {
    const { url } = await bench.server(side)
    const { ok } = await fetch(`${url}/bytes`, { method: 'PUT', headers, body })
    if (!ok) throw new Error(`${side} keeps no bytes`)
  }
  const asked = {
    ours: requests,
    pipe: [{ path: '/bytes' }],
    fastify: requests.map(({ token }) => ({ path: '/bytes', token })),
  }
  const sides = ['ours', 'pipe', 'fastify'] as const
  const { ours, pipe, fastify } = await interleave(bench, name, sides, (side) =>
    requestsPerCore(bench, side, asked[side]),
  )
  return [
    row({
      name: `${name}, against the same bytes`,
      ...{ unit, ours, rival: pipe, goal: { of: 'ratio', atLeast: 0.25 } },
    }),
    row({
      name: `${name}, against the same bytes by token from bare Fastify`,
      unit,
      ours,
      rival: fastify,
    }),
  ]
}
