import { setTimeout as delay } from 'node:timers/promises'
import { api, register } from '../services/app.js'
import { connectDeaf, followDeaf, upgradeHalfway } from '../services/deaf-socket.js'
import { startStandIn } from '../services/ollama-stand-in.js'
import { sendPart } from '../services/raw.js'
import { Caller } from './caller.js'
import { Conversation } from './conversation.js'
import { MortalServer } from './processes.js'
import { between, pick, type Settings, type Trial } from './trial.js'

const users = 4
const troublemakers = 4
/** How long a troublemaker stays, and how long the server runs before it is ended, in milliseconds. */
const stayMs = { min: 0, max: 3000 }
const runMs = { min: 500, max: 8000 }

/**
 * A server is ended by SIGTERM at random moments and started again, while clients of every kind use
 * it: some send, read and stop; others read nothing, leave in the middle, or send what is refused.
 * It ends by itself within its grace each time, and nothing is lost or doubled.
 */
export async function terminations(trial: Trial, count: number, settings: Settings): Promise<void> {
  const standIn = await startStandIn()
  trial.teardown(() => standIn.close())
  const server = await MortalServer.start(trial, {
    // A hundred visitors a minute sign up from one address.
    RATE_LIMIT_CREDENTIALS_PER_MINUTE: '0',
    OLLAMA_API_URL: standIn.url,
    OLLAMA_MAX_CONCURRENT: '8',
    LEASE_MS: '1000',
    ...settings,
  })
  const callers = await Promise.all(
    Array.from({ length: users }, () => Caller.register(trial, server.url)),
  )
  const conversations = await Promise.all(
    callers.map((caller) => Conversation.begin(trial, caller)),
  )
  let ending = true

  async function terminate(): Promise<void> {
    for (let done = 0; done < count; done += 1) {
      await trial.pause(between(trial.random, runMs.min, runMs.max))
      const began = Date.now()
      await server.terminate()
      trial.note('clients', `the server ended in ${Date.now() - began} ms`)
      await server.start()
      trial.count('terminations')
      trial.progress(done + 1, count)
    }
  }

  await Promise.all([
    terminate().finally(() => {
      ending = false
    }),
    ...conversations.map((conversation) => conversation.run(() => ending)),
    ...Array.from({ length: troublemakers }, () => makeTrouble(trial, server.url, () => ending)),
  ])
  await Promise.all(conversations.map((conversation) => conversation.settle(standIn.calls)))
  await server.end()
}

/** A client that holds something open; its visit ends what it opened. */
type Visit = (visitor: Visitor) => Promise<{ destroy(): unknown }>

interface Visitor {
  url: string
  token: string
  call: ReturnType<typeof api>
  chatId: string
}

/** A reply that runs for some seconds. */
async function runReply({ call, chatId }: Visitor): Promise<string> {
  const input = { content: 'len=3000 rate=400' }
  const prefer = { prefer: 'respond-async' }
  const path = `/api/ai/chats/${chatId}/messages`
  const { body } = await call<{ reply?: { id: string } }>('POST', path, input, prefer)
  if (!body.reply) throw new TypeError('fetch failed')
  return `${path}/${body.reply.id}`
}

const headers = ({ token }: Visitor) => ({ authorization: `Bearer ${token}` })

/** A request that is given up by aborting what comes back. */
function abortable(request: (signal: AbortSignal) => Promise<unknown>) {
  const controller = new AbortController()
  // It is aborted, or the server goes away.
  request(controller.signal).catch(() => undefined)
  return { destroy: () => controller.abort() }
}

const visits: Readonly<Record<string, Visit>> = {
  'deaf sockets': async ({ url, token, chatId }) => (await connectDeaf(url, token, chatId)).socket,
  'deaf sockets of ended sessions': async ({ url, token, call, chatId }) => {
    const { socket } = await connectDeaf(url, token, chatId)
    await call('POST', '/api/auth/logout-everywhere')
    return socket
  },
  'deaf streams': async (visitor) =>
    followDeaf(visitor.url, visitor.token, `${await runReply(visitor)}/stream`),
  'half upgrades': async ({ url, token }) => upgradeHalfway(url, token),
  'half requests': async ({ url }) => sendPart(url, 'POST /api/auth/login HTTP/1.1\r\n'),
  'silent connections': async ({ url }) => sendPart(url, ''),
  'aborted streams': async (visitor) => {
    const path = await runReply(visitor)
    return abortable(async (signal) =>
      (await fetch(`${visitor.url}${path}/stream`, { headers: headers(visitor), signal })).text(),
    )
  },
  'aborted requests': async (visitor) =>
    abortable((signal) =>
      fetch(`${visitor.url}/api/ai/chats/${visitor.chatId}/messages`, {
        method: 'POST',
        headers: { ...headers(visitor), 'content-type': 'application/json' },
        body: JSON.stringify({ content: 'len=3000 rate=400' }),
        signal,
      }),
    ),
  refusals: async ({ url, call, chatId }) => {
    await Promise.all([
      call('POST', '/api/auth/login', { username: 'nobody', password: 'not a password' }),
      call('POST', `/api/ai/chats/${chatId}/messages`, { content: '' }),
      call('GET', '/api/ai/chats/000000000000000000000000'),
      sendPart(url, '{').then((socket) => socket.destroy()),
    ])
    return { destroy: () => undefined }
  },
}

/** Users of whom each pays one visit, at random. */
async function makeTrouble(trial: Trial, url: string, goesOn: () => boolean): Promise<void> {
  const random = trial.fork()
  const [first, ...rest] = Object.keys(visits)
  while (goesOn() && first) {
    const kind = pick(random, [first, ...rest])
    const stay = between(random, stayMs.min, stayMs.max)
    try {
      const { token } = await register(url)
      const call = api(url, token)
      const { body } = await call<{ id: string }>('POST', '/api/ai/chats', {})
      const opened = await visits[kind]?.({ url, token, call, chatId: body.id })
      trial.teardown(() => opened?.destroy())
      await delay(stay, undefined, { signal: trial.signal })
      opened?.destroy()
      trial.count(kind)
    } catch (error) {
      if (trial.signal.aborted) throw error
      // The server went down meanwhile: what the visitor was told differs.
      trial.note('clients', `${kind}: ${error}`)
      await trial.pause(50)
    }
  }
}
