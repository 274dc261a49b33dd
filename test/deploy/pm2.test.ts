import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { Agent as HttpsAgent } from 'node:https'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { io } from 'socket.io-client'
import t, { type Test } from 'tap'
import { Agent, fetch } from 'undici'
import type { SignedIn } from '../../schemas/auth.js'
import type { Chat } from '../../schemas/chats.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { followReply } from '../../web/client/follow.js'
import { ReplyText } from '../../web/client/reply-text.js'
import { ChatStream } from '../../web/client/stream.js'
import { outsideServices, testPassword } from '../services/app.js'
import { eventually, patienceMs } from '../services/eventually.js'
import { startNginx, withoutNginx } from '../services/nginx-process.js'
import { standInModel, standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { startPm2 } from '../services/pm2.js'
import { deterministic } from '../services/stand-in-script.js'

/** Of so many tokens that it lasts for minutes at the pace of the model below. */
const prompt = 'len=20000'

/** A model that says a token each 50 ms until it is hurried, so that servers restart in mid-reply. */
async function startPacedModel(t: Test) {
  let isHurried = false
  const model = await startStandIn({
    models: [{ ...standInModel, continues: true }],
    script: async function* (body, model) {
      for await (const step of deterministic(body, model)) {
        yield step
        if (!isHurried) yield { wait: delay(50) }
      }
    },
  })
  t.teardown(() => model.close())
  return {
    url: model.url,
    hurry() {
      isHurried = true
    },
  }
}

const { MONGODB_URI, REDIS_URL, TEST_PM2 } = process.env
const servers = 3
const readers = 6

/**
 * A user at an address of its own, since nginx chooses the server by the client's network: signed in,
 * and in a chat, with a socket and with server-sent events.
 */
async function startReader(t: Test, site: { url: string; ca: Buffer }, n: number) {
  const { url, ca } = site
  const localAddress = `127.0.${n + 1}.1`
  const dispatcher = new Agent({ connect: { ca, localAddress } })
  t.teardown(() => dispatcher.close())
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  /** Repeats what a server that ends refuses or drops, as clients do, under the same key. */
  async function call<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    const key = randomBytes(16).toString('hex')
    let answer: T | undefined
    await eventually(`${path} is answered`, async () => {
      const response = await fetch(`${url}/api${path}`, {
        method,
        dispatcher,
        headers: { ...headers, 'idempotency-key': key, prefer: 'respond-async' },
        ...(body && { body: JSON.stringify(body) }),
      }).catch(() => undefined)
      const text = await response?.text().catch(() => undefined)
      if (response?.ok && text) answer = JSON.parse(text) as T
      else t.comment(`${method} ${path}: ${response?.status} ${text}`)
      return answer !== undefined
    })
    if (answer === undefined) throw new Error('no answer')
    return answer
  }
  const username = `reader-${randomBytes(6).toString('hex')}`
  const { token } = await call<SignedIn>('POST', '/auth/register', {
    username,
    email: `${username}@example.org`,
    password: testPassword,
  })
  headers.authorization = `Bearer ${token}`
  const chat = await call<Chat>('POST', '/ai/chats', {})
  const socket = io(url, {
    auth: { token },
    transports: n % 2 === 0 ? ['websocket'] : ['polling'],
    reconnectionDelay: 50,
    // The types name the one of node:http alone.
    ...({ agent: new HttpsAgent({ ca, localAddress, keepAlive: true }) } as object),
    forceNew: true,
  })
  t.teardown(() => socket.disconnect())
  const seen = new Set<string>()
  const errors: unknown[] = []
  let connects = 0
  socket.on('connect', () => {
    connects += 1
  })
  const stream = new ChatStream(socket, chat.id, {
    onChange: ({ text }) => seen.add(text),
    onError: (error) => errors.push(error),
  })
  t.teardown(() => stream.close())

  return {
    seen,
    errors,
    connects: () => connects,
    /** Asks again and again until told to end, and tells the statuses that came. */
    callOften() {
      let isEnding = false
      const statuses: (number | string)[] = []
      const asking = (async () => {
        while (!isEnding) {
          const asked = fetch(`${url}/api/ai/chats`, { dispatcher, headers })
          statuses.push(
            await asked.then(async (response) => {
              await response.arrayBuffer()
              return response.status
            }, String),
          )
          await delay(20)
        }
        return statuses
      })()
      return {
        end() {
          isEnding = true
          return asking
        },
      }
    },
    async send(content: string) {
      const path = `/ai/chats/${chat.id}/messages`
      const { reply } = await call<Turn>('POST', path, { content })
      const text = new ReplyText(reply.id)
      const following = followReply(
        (target, init) => fetch(target, { ...init, dispatcher }),
        `${url}/api${path}/${reply.id}/stream`,
        token,
        text,
        AbortSignal.timeout(patienceMs),
      )
      return {
        following,
        followed: () => text.text,
        shown: () => stream.reply(reply.id),
        stored: () => call<Message>('GET', `${path}/${reply.id}`),
      }
    },
  }
}

const missing = !MONGODB_URI || !REDIS_URL || !TEST_PM2
const skip = missing ? 'MONGODB_URI, REDIS_URL or TEST_PM2 is not set' : withoutNginx

t.test(
  'PM2 restarts three servers behind nginx in mid-reply, and no reader notices more than a reconnect',
  { skip },
  async (t) => {
    const model = await startPacedModel(t)
    const secret = join(t.testdir(), 'jwt_secret')
    await writeFile(secret, `${randomBytes(48).toString('base64url')}\n`)
    const { urls, pm2, list, log } = await startPm2(t, TEST_PM2 ?? '', {
      ...outsideServices(`pm2-${randomBytes(6).toString('hex')}`),
      JWT_SECRET_FILE: secret,
      TRUST_PROXY: '1',
      OLLAMA_API_URL: model.url,
      OLLAMA_MAX_CONCURRENT: '100',
      START_TIMEOUT_MS: '120000',
    })
    const before = await list()
    t.match(
      before.map(({ pm2_env }) => pm2_env),
      Array(servers).fill({ status: 'online', exec_mode: 'fork_mode' }),
    )
    // PM2 has waited for `ready`: a server listens before that is said.
    for (const url of urls) t.equal((await fetch(`${url}/health/ready`)).status, 200)

    const site = await startNginx(t, urls, true)
    const all = await Promise.all(
      Array.from({ length: readers }, (_, n) => startReader(t, site, n)),
    )
    const replies = await Promise.all(all.map(({ send }) => send(prompt)))
    await eventually('every reader hears', () =>
      replies.every(({ followed, shown }) => followed() !== '' && (shown()?.text ?? '') !== ''),
    )

    const callers = all.map(({ callOften }) => callOften())
    await pm2('reload', 'chat', '--parallel', '1')
    const answers = await Promise.all(callers.map(({ end }) => end()))
    for (const [n, statuses] of answers.entries()) {
      t.same([...new Set(statuses)], [200], `${statuses.length} requests of reader ${n}`)
    }
    const running = await Promise.all(replies.map(({ stored }) => stored()))
    t.same(
      running.map(({ status }) => status),
      Array(readers).fill('streaming'),
      'all servers were restarted in mid-reply',
    )
    const after = await list()
    for (const [n, { name, pid, pm2_env }] of after.entries()) {
      t.match(pm2_env, { status: 'online', restart_time: 1 }, name)
      t.not(pid, before[n]?.pid)
      t.notMatch(await log(name), /"level":[56]0/, `${name} logged no error`)
    }

    model.hurry()
    const ended = await Promise.all(replies.map(({ following }) => following))
    await eventually('the sockets have the end too', () =>
      replies.every(({ shown }) => shown()?.ended === true),
    )
    for (const [n, reply] of replies.entries()) {
      const { status, content } = await reply.stored()
      t.equal(status, 'complete')
      t.equal(content, standInReply(prompt))
      t.equal(ended[n]?.content, content, 'the final record of the stream')
      t.equal(reply.followed(), content, 'the text of the stream')
      t.equal(reply.shown()?.text, content, 'the text of the socket')
      const { seen, errors, connects } = all[n] ?? {
        seen: [],
        errors: ['no reader'],
        connects: () => 0,
      }
      t.same(
        [...seen].filter((text) => !content.startsWith(text)),
        [],
        'it was right throughout',
      )
      t.same(errors, [])
      t.comment(`reader ${n} connected ${connects()} times`)
    }
  },
)
