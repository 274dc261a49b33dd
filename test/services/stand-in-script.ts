import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { directivesOf, standInReply, standInThinking, tokensOf } from './stand-in-reply.js'

export interface ChatBody {
  model: string
  messages: { role: string; content: string }[]
  options?: Record<string, unknown>
  think?: boolean | string
  stream?: boolean
}

/** One thing that the stand-in does for a call. When the steps are over it says `done` and ends. */
export type Step =
  | { content: string }
  | { thinking: string }
  /** A line of any shape. */
  | { line: unknown }
  /** Bytes, as they are. */
  | { raw: Buffer | string }
  /** Waits, or until the client has gone. */
  | { wait: Promise<unknown> }
  /** Sends these before the first byte of the body. */
  | { status: number; headers?: Record<string, string> }
  /** The last line, with these fields besides, and the end. */
  | { done: Record<string, unknown> }
  /** The end of the body, without `done`. */
  | { end: true }
  /** The connection closed in the middle of the body. */
  | { close: true }
  /** The connection reset. */
  | { destroy: true }

interface ScriptModel {
  /** Whether its template leaves a begun answer open. */
  continues: boolean
}

export type Script = (body: ChatBody, model: ScriptModel) => AsyncIterable<Step> | Iterable<Step>

export const never = new Promise<never>(() => {})

const utf8Sample = Buffer.from(
  `${JSON.stringify({ message: { role: 'assistant', content: 'é日😀' }, done: false })}\n`,
)

/** A line that comes a byte at a time. */
export const byteEvery = (ms: number): Script =>
  async function* () {
    yield { content: 'first' }
    const line = JSON.stringify({ message: { content: 'x'.repeat(10_000) }, done: false })
    for (const byte of Buffer.from(line)) {
      yield { raw: Buffer.of(byte) }
      yield { wait: delay(ms) }
    }
  }

/** Every way in which Ollama fails, by name; a prompt asks for one with `fault=<name>`. */
export const faults = {
  notFound: () => [
    { status: 404, headers: { 'content-type': 'application/json' } },
    { raw: '{"error":"model \\"nope\\" not found, try pulling it first"}' },
    { end: true },
  ],
  serverError: () => [
    { status: 500, headers: { 'content-type': 'application/json' } },
    { raw: '{"error":"llama runner process has terminated"}' },
    { end: true },
  ],
  hangBeforeHeaders: () => [{ wait: never }],
  hangBeforeTokens: () => [{ status: 200 }, { wait: never }],
  hangBetweenTokens: () => [{ content: 'first' }, { wait: never }],
  hangInErrorBody: () => [{ status: 503 }, { raw: '{"error":' }, { wait: never }],
  cut: function* () {
    yield { content: 'first' }
    // A reset also takes back what was not read yet.
    yield { wait: delay(50) }
    yield { destroy: true }
  },
  cutBeforeHeaders: () => [{ destroy: true }],
  cutInLine: () => [{ content: 'first' }, { raw: '{"message":{"con' }, { close: true }],
  cutCleanly: () => [{ content: 'first' }, { end: true }],
  badJson: () => [{ content: 'first' }, { raw: '{"message":{]\n' }, { wait: never }],
  badShape: () => [{ content: 'first' }, { line: { message: 'text' } }, { wait: never }],
  badUtf8: () => [
    { content: 'first' },
    { raw: Buffer.from('{"message":{"content":"\xff"}}\n', 'latin1') },
    { wait: never },
  ],
  loneSurrogate: () => [
    { content: 'first' },
    { raw: '{"message":{"content":"\\ud83d"},"done":false}\n' },
    { wait: never },
  ],
  html: () => [
    { status: 200, headers: { 'content-type': 'text/html' } },
    { raw: '<!doctype html><title>Not Ollama</title>\n' },
    { wait: never },
  ],
  htmlAsJson: () => [{ raw: '<!doctype html><title>Not Ollama</title>\n' }, { wait: never }],
  redirect: () => [{ status: 302, headers: { location: '/login' } }, { raw: '' }, { wait: never }],
  errorLine: () => [{ content: 'first' }, { line: { error: 'out of memory' } }, { wait: never }],
  errorLineAndEnd: () => [
    { content: 'first' },
    { line: { error: 'out of memory' } },
    { end: true },
  ],
  longLine: function* () {
    yield { content: 'first' }
    yield { raw: '{"message":{"content":"' }
    for (let i = 0; i < 320; i += 1) yield { raw: Buffer.alloc(65_536, 'x') }
    yield { raw: '"}}\n' }
  },
  byteASecond: byteEvery(1_000),
  gzip: () => [
    {
      status: 200,
      headers: { 'content-type': 'application/x-ndjson', 'content-encoding': 'gzip' },
    },
    { raw: gzipSync(utf8Sample) },
    { wait: never },
  ],
} satisfies Record<string, Script>

const faultsByName: Readonly<Record<string, Script>> = faults

/** The deterministic model: the prompt is the last message of the user. */
export const deterministic: Script = async function* (body, model) {
  const prompt = body.messages.findLast(({ role }) => role === 'user')?.content ?? ''
  const { rate, fault, after } = directivesOf(prompt)
  const begun = body.messages.at(-1)
  const goesOn = begun?.role === 'assistant' ? begun.content : undefined
  const text = continued(standInReply(prompt), goesOn, model)
  const failing = fault === undefined ? undefined : faultsByName[fault]
  const startedAt = performance.now()

  let sent = 0
  async function* paced(tokens: readonly string[], step: (token: string) => Step) {
    for (const token of tokens) {
      const early = rate > 0 ? startedAt + (sent * 1000) / rate - performance.now() : 0
      if (early > 1) yield { wait: delay(early) }
      yield step(token)
      sent += 1
    }
  }

  if (body.think !== false && goesOn === undefined) {
    yield* paced(tokensOf(standInThinking(prompt)), (thinking) => ({ thinking }))
  }
  const tokens = tokensOf(text)
  const predict = Number(body.options?.num_predict ?? -1)
  const said = predict > 0 ? tokens.slice(0, predict) : tokens
  yield* paced(failing ? said.slice(0, after) : said, (content) => ({ content }))
  if (failing) yield* failing(body, model)
  yield {
    done: {
      done_reason: said.length < tokens.length ? 'length' : 'stop',
      total_duration: Math.round((performance.now() - startedAt) * 1e6) || undefined,
      prompt_eval_count: body.messages.reduce((sum, { content }) => sum + content.length, 0),
      prompt_eval_duration: 1_000_000,
      eval_count: said.length || undefined,
      eval_duration: Math.round((performance.now() - startedAt) * 1e6) || undefined,
    },
  }
}

/** A model whose template closes the last message answers it with something else. */
function continued(text: string, begun: string | undefined, model: ScriptModel): string {
  if (begun === undefined) return text
  if (!model.continues || !text.startsWith(begun)) return `[not gone on from] ${text}`
  return text.slice(begun.length)
}
