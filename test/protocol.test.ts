import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createContext, runInContext } from 'node:vm'
import t from 'tap'
import { WebSocket } from 'undici'
import { AppError, isErrorCode } from '../src/errors.js'
import { startApp } from './services/app.js'
import { startConversation } from './services/conversation.js'
import { eventually } from './services/eventually.js'
import { type StepOf, type Vector, vectorFiles } from './web/client/vectors.js'

const protocol = readFileSync(join(import.meta.dirname, '../../docs/protocol.md'), 'utf8')

/** The class `Reply` of docs/protocol.md, as it is written there. */
interface Reply {
  chatId: string
  messageId: string
  send: (event: string, payload: object) => void
  text: string
  thinking: string
  status: string
  position: number | null
  joining: boolean
  readonly ended: boolean
  onChunk(payload: object): void
  onStart(payload: object): void
  onMessage(payload: object): void
  onActive(payload: object): void
  rejoin(): void
}

interface StreamedReply extends Reply {
  request: (lastEventId: string | null) => void
  readonly lastEventId: string | null
  onStreamStart(start: object, id: string): void
}

const rules = Array.from(protocol.matchAll(/^```js\n(.*?)^```/gms), ([, code]) => code).join('')
const documented: { Reply: new () => Reply; StreamedReply: new () => StreamedReply } = runInContext(
  `${rules}; ({ Reply, StreamedReply })`,
  createContext(),
)

/** A client of one chat that knows what docs/protocol.md says, and no more. */
class DocumentedClient {
  readonly joins: object[] = []
  readonly refusals: string[] = []
  readonly #replies = new Map<string, Reply>()
  #isRefused = false

  constructor(readonly chatId: string) {}

  reply(messageId: string): Reply {
    const known = this.#replies.get(messageId)
    if (known) return known
    const reply = Object.assign(new documented.Reply(), {
      chatId: this.chatId,
      messageId,
      send: (_event: string, payload: object) => this.joins.push({ ...payload }),
    })
    this.#replies.set(messageId, reply)
    return reply
  }

  connect(): void {
    if (this.#isRefused) return
    const open = [...this.#replies.values()].filter((reply) => !reply.ended)
    for (const reply of open) reply.rejoin()
    if (open.length === 0) this.joins.push({ chatId: this.chatId })
  }

  disconnect(): void {
    for (const reply of this.#replies.values()) reply.joining = false
  }

  answer(join: { messageId?: string | undefined }, answer: StepOf<'ack'>['answer']): void {
    if (answer.ok) {
      for (const active of answer.active) {
        const isNew = !this.#replies.has(active.messageId)
        if (isNew || active.messageId === join.messageId) {
          this.reply(active.messageId).onActive(active)
        }
      }
    } else if (answer.error.retryable && join.messageId) this.reply(join.messageId).rejoin()
    else this.#refuse(answer.error.code)
  }

  hear({ event, payload }: StepOf<'event'>): void {
    if (payload.chatId !== this.chatId) return
    const id = String(payload.messageId ?? payload.id)
    if (event === 'message-chunk') this.reply(id).onChunk(payload)
    else if (event === 'message-start') this.reply(id).onStart(payload)
    else if (event === 'message' && payload.role === 'assistant') this.reply(id).onMessage(payload)
    else if (event === 'chat-deleted') this.#refuse('CHAT_NOT_FOUND')
  }

  #refuse(code: string): void {
    this.#isRefused = true
    this.refusals.push(code)
  }
}

/** @returns the steps at which the documented client does otherwise than a vector says. */
function faultsOf({ chatId, steps }: Vector): string[] {
  const client = new DocumentedClient(chatId)
  const faults: string[] = []
  const compare = (at: string, found: unknown, wanted: unknown) => {
    const [a, b] = [found, wanted].map((value) => JSON.stringify(value))
    if (a !== b) faults.push(`${at}: ${a} and not ${b}`)
  }
  let join: StepOf<'join'>['payload'] = { chatId }
  for (const [index, step] of steps.entries()) {
    const at = `step ${index}, ${step.step}`
    if (step.step === 'connect') client.connect()
    else if (step.step === 'disconnect') client.disconnect()
    else if (step.step === 'event') client.hear(step)
    else if (step.step === 'ack') client.answer(join, step.answer)
    else if (step.step === 'join') {
      join = step.payload
      compare(at, client.joins.shift(), step.payload)
    } else if (step.step === 'refused') compare(at, client.refusals.shift(), step.code)
    else if (step.step === 'expect') {
      const { step: _, messageId, ...wanted } = step
      const { text, thinking, status, position } = client.reply(messageId)
      compare(at, { text, thinking, status, ...('position' in wanted && { position }) }, wanted)
    }
  }
  compare('the end', client.joins, [])
  return faults
}

t.test('the rules as docs/protocol.md writes them pass every vector of a socket', async (t) => {
  t.match(rules, 'class Reply')
  for (const { name, vectors } of vectorFiles) {
    for (const vector of vectors.filter(({ transport }) => transport === 'socket')) {
      t.strictSame(faultsOf(vector), [], `${name}: ${vector.name}`)
    }
  }
})

/** A client of one stream that knows what docs/protocol.md says; its requests are noted. */
function followDocumented(messageId: string) {
  const requests: (string | null)[] = []
  const refusals: string[] = []
  const reply = Object.assign(new documented.StreamedReply(), {
    messageId,
    request: (lastEventId: string | null) => requests.push(lastEventId),
  })
  const ask = () => requests.push(reply.lastEventId)
  reply.send = ask
  ask()
  return {
    reply,
    requests,
    refusals,
    ask,
    respond(status: number) {
      if (status === 200) return
      if (status >= 500) ask()
      else refusals.push(String(status))
    },
    hear({ event, payload, id = '' }: StepOf<'event'>) {
      if (event === 'message-start') reply.onStreamStart(payload, id)
      else if (event === 'message-chunk') reply.onChunk(payload)
      else if (event === 'message') reply.onMessage(payload)
      else refusals.push(String(payload.code))
    },
  }
}

/** @returns the steps at which the documented client does otherwise than a vector of a stream says. */
function streamFaultsOf({ messageId, steps }: Vector): string[] {
  const client = followDocumented(messageId)
  const faults: string[] = []
  const compare = (at: string, found: unknown, wanted: unknown) => {
    const [a, b] = [found, wanted].map((value) => JSON.stringify(value))
    if (a !== b) faults.push(`${at}: ${a} and not ${b}`)
  }
  for (const [index, step] of steps.entries()) {
    const at = `step ${index}, ${step.step}`
    if (step.step === 'request') compare(at, client.requests.shift(), step.lastEventId)
    else if (step.step === 'response') client.respond(step.status)
    else if (step.step === 'disconnect') client.ask()
    // What is left of a stream that the client has given up is not heard.
    else if (step.step === 'event' && client.requests.length === 0) client.hear(step)
    else if (step.step === 'refused') compare(at, client.refusals.shift(), step.code)
    else if (step.step === 'expect') {
      const { text, thinking, status } = client.reply
      compare(at, [text, thinking, status], [step.text, step.thinking, step.status])
    }
  }
  compare('the end', client.requests, [])
  return faults
}

t.test('the rules of a stream as docs/protocol.md writes them pass every vector', async (t) => {
  const vectors = vectorFiles.flatMap((file) => file.vectors)
  const streams = vectors.filter(({ transport }) => transport === 'sse')
  t.ok(streams.length > 10)
  for (const vector of streams) t.strictSame(streamFaultsOf(vector), [], vector.name)
})

t.test('docs/protocol.md tells of errors what the catalogue says', async (t) => {
  const rows = Array.from(protocol.matchAll(/^\| (`[A-Z_]+`[^|]*) \| (yes|no) \|/gm))
  t.ok(rows.length >= 10)
  for (const [, codes = '', retryable] of rows) {
    for (const [, code = ''] of codes.matchAll(/`([A-Z_]+)`/g)) {
      t.ok(isErrorCode(code), code)
      if (isErrorCode(code)) t.equal(new AppError(code).retryable, retryable === 'yes', code)
    }
  }
})

t.test('docs/protocol.md names every file of vectors', async (t) => {
  for (const { name } of vectorFiles) t.match(protocol, `(vectors/${name})`)
})

t.test(
  'the protocol is a page, under the policy of all pages, and its links lead somewhere',
  async (t) => {
    const { url } = await startApp(t)
    const visited = new Set<string>()
    const visit = async (path: string) => {
      if (visited.has(path)) return
      visited.add(path)
      const response = await fetch(url + path)
      const body = await response.text()
      t.equal(response.status, 200, path)
      const isPage = response.headers.get('content-type') === 'text/html; charset=utf-8'
      if (!isPage || !/^\/docs\/(?:protocol|vectors)/.test(path)) return
      t.match(response.headers.get('content-security-policy'), "default-src 'self'")
      t.equal(response.headers.get('x-content-type-options'), 'nosniff')
      t.notMatch(body, /<script|\son\w+=|javascript:|(?:src|href)="(?:https?:)?\/\//i)
      const links = Array.from(body.matchAll(/href="([^"]+)"/g), ([, href]) => href ?? '')
      t.ok(links.length > 4)
      for (const link of links) {
        if (link.startsWith('#')) t.match(body, ` id="${link.slice(1)}"`)
        else await visit(link)
      }
    }
    await visit('/docs/protocol')
    for (const { name } of vectorFiles) t.ok(visited.has(`/docs/vectors/${name}`), name)
  },
)

t.test('a client without a library talks to a server as docs/protocol.md writes it', async (t) => {
  const { url, user, newChat, call } = await startConversation(t)
  const chatId = await newChat()
  const address = `${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`
  const open = () => {
    const socket = new WebSocket(address)
    t.teardown(() => socket.close())
    const frames: string[] = []
    socket.addEventListener('message', ({ data }) => frames.push(String(data)))
    /** The next frame that begins with `type`, without it. */
    const next = async (type: string) => {
      await eventually(`a frame ${type}`, () => frames.some((frame) => frame.startsWith(type)))
      const [frame = ''] = frames
        .splice(0, 1 + frames.findIndex((one) => one.startsWith(type)))
        .slice(-1)
      return frame.slice(type.length)
    }
    return { socket, next }
  }

  const { socket, next } = open()
  t.match(JSON.parse(await next('0')), {
    pingInterval: 25000,
    pingTimeout: 20000,
    maxPayload: 1000000,
  })
  socket.send(`40${JSON.stringify({ token: user.token })}`)
  t.match(JSON.parse(await next('40')), { sid: String })
  socket.send(`421${JSON.stringify(['join-chat', { chatId }])}`)
  t.strictSame(JSON.parse(await next('431')), [{ ok: true, active: [] }])
  socket.send(`422${JSON.stringify(['chat-message', { chatId, content: 'len=10' }])}`)
  const [sent] = JSON.parse(await next('432'))
  t.match(sent, { ok: true, message: { chatId }, reply: { chatId } })
  const chunk = JSON.parse((await next('42["message-chunk",')).slice(0, -1))
  t.match(chunk, { chatId, messageId: sent.reply.id, epoch: 1, offset: 0 })
  await call('POST', '/api/auth/logout')
  await next('42["session-ended",{"code":"LOGGED_OUT"}]')
  t.equal(await next('41'), '')

  const refused = open()
  await refused.next('0')
  refused.socket.send(`40${JSON.stringify({ token: user.token })}`)
  t.match(JSON.parse(await refused.next('44')), {
    data: { code: 'UNAUTHORIZED', message: String, retryable: false },
  })
})

t.test('DOCS=false takes the page and the vectors away', async (t) => {
  const { url } = await startApp(t, { DOCS: 'false' })
  for (const path of ['/docs/protocol', '/docs/vectors/', '/docs/vectors/gaps.json']) {
    const response = await fetch(url + path)
    t.equal(response.status, 404, path)
    await response.arrayBuffer()
  }
})
