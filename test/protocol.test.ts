import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createContext, runInContext } from 'node:vm'
import t from 'tap'
import { startApp } from './services/app.js'
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

const [, rules = ''] = /^```js\n(.*?)^```/ms.exec(protocol) ?? []
const DocumentedReply: new () => Reply = runInContext(`${rules}; Reply`, createContext())

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
    const reply = Object.assign(new DocumentedReply(), {
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

t.test('DOCS=false takes the page and the vectors away', async (t) => {
  const { url } = await startApp(t, { DOCS: 'false' })
  for (const path of ['/docs/protocol', '/docs/vectors/', '/docs/vectors/gaps.json']) {
    const response = await fetch(url + path)
    t.equal(response.status, 404, path)
    await response.arrayBuffer()
  }
})
