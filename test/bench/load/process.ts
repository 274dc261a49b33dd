import { setTimeout as delay } from 'node:timers/promises'
import type { WebSocket } from 'ws'
import { type Prompt, writePrompt } from '../prompt.js'
import { type Remote, serve } from '../rpc.js'
import { quantile } from '../statistics.js'
import { type Conversation, Ear, Heard, type Slot } from './hear.js'
import { type HttpLoad, loadHttp } from './http-load.js'
import { throughPipe } from './pipe-client.js'
import { closed, connect, joinChat } from './socket-client.js'

/*
 * All load is made here, in a process of its own, so that only what is measured is in the server's.
 */
export interface Group {
  protocol: 'pipe' | 'socket'
  slots: Slot[]
  /** Of each conversation, the one that sends among them. */
  listeners: number
}

export interface Say extends Prompt {
  /** In how many conversations of the group; all unless told. */
  count?: number
  /** Over how long the sending is spread. */
  spreadMs: number
  /**
   * Sends again as soon as a reply has ended. The first replies then are of different lengths, so
   * that ends and beginnings are spread too.
   */
  again?: boolean
  /** Ollama's options, for a side that takes them. */
  options?: object
}

interface Member {
  conversation: Conversation
  others: Conversation[]
  isBusy: boolean
  again: (() => void) | undefined
}

const groups = new Map<string, Member[]>()
const idle: WebSocket[] = []
const heard = new Heard()
const openAtOnce = 20
const onChars = (chars: number) => {
  heard.chars += chars
  heard.frames++
}

async function openOne(group: Group, place: Slot): Promise<Member> {
  const ear = new Ear(heard, () => {
    member.isBusy = false
    member.again?.()
  })
  const isPipe = group.protocol === 'pipe'
  const conversation = isPipe
    ? throughPipe(place, group.listeners, ear, onChars)
    : await joinChat(place, ear, onChars)
  const others: Conversation[] = []
  for (let n = 1; n < group.listeners && !isPipe; n++) {
    others.push(await joinChat(place, undefined, onChars))
  }
  const member: Member = { conversation, others, isBusy: false, again: undefined }
  return member
}

function quantiles(us: readonly number[]) {
  const ms = us.map((value) => value / 1000).sort((a, b) => a - b)
  return { count: ms.length, p50: quantile(ms, 0.5), p99: quantile(ms, 0.99) }
}

const membersOf = (name: string) => groups.get(name) ?? []

function close(name: string) {
  for (const { conversation, others } of membersOf(name)) {
    for (const one of [conversation, ...others]) one.close()
  }
  groups.delete(name)
}

/** Does `work` for each, at most so many at once. */
async function each<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>) {
  const rest = items.values()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const item of rest) await work(item)
    }),
  )
}

const methods = {
  async open(name: string, group: Group) {
    close(name)
    const members: Member[] = []
    await each(group.slots, openAtOnce, async (place) => {
      members.push(await openOne(group, place))
    })
    groups.set(name, members)
  },

  /** Begins replies; resolves when all are asked for. */
  async say(name: string, { count, spreadMs, again, options, ...prompt }: Say) {
    const members = membersOf(name).slice(0, count)
    const startedAt = performance.now()
    for (const [n, member] of members.entries()) {
      const waitMs = startedAt + (spreadMs * n) / members.length - performance.now()
      if (waitMs > 1) await delay(waitMs)
      const send = (tokens: number) => {
        member.isBusy = true
        member.conversation.send(writePrompt({ ...prompt, tokens }), options)
      }
      member.again = again ? () => send(prompt.tokens) : undefined
      send(again ? Math.ceil((prompt.tokens * (n + 1)) / members.length) : prompt.tokens)
    }
  },

  /** One turn in each conversation after the other, each when the one before has ended. */
  async inTurn(name: string, { options, ...prompt }: Prompt & { options?: object }) {
    for (const member of membersOf(name)) {
      await new Promise<void>((resolve) => {
        member.again = resolve
        member.conversation.send(writePrompt(prompt), options)
      })
      member.again = undefined
    }
  },

  /** Resolves when no reply is awaited any more. @returns how many still were when the time was over. */
  async quiet(name: string, ms: number) {
    for (const member of membersOf(name)) member.again = undefined
    const deadline = performance.now() + ms
    const busy = () => membersOf(name).filter((member) => member.isBusy).length
    while (busy() > 0 && performance.now() < deadline) await delay(5)
    return busy()
  },

  pauseOthers(name: string) {
    for (const { others } of membersOf(name)) for (const other of others) other.pause()
  },

  close,

  reset: () => heard.reset(),
  /** Times as quantiles, in milliseconds. */
  heard: () => ({
    chars: heard.chars,
    frames: heard.frames,
    ended: heard.ended,
    refused: heard.refused,
    first: quantiles(heard.first),
    latency: quantiles(heard.latencies),
    untilFirst: quantiles(heard.untilFirst),
    gap: quantiles(heard.gaps),
  }),

  async idle(url: string, tokens: string[], count: number) {
    const given = Array.from({ length: count }, (_, n) => tokens[n % tokens.length] ?? '')
    await each(given, openAtOnce, async (token) => {
      idle.push(await connect(url, token))
    })
  },

  async closeIdle() {
    const sockets = idle.splice(0)
    for (const socket of sockets) socket.terminate()
    await Promise.all(sockets.map(closed))
  },

  http: (load: HttpLoad) => loadHttp(load),
}

export type Load = Remote<typeof methods>

serve(methods)
