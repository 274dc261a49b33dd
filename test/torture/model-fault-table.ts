import { setImmediate as nextTurn } from 'node:timers/promises'
import { byteEvery, type Script, type Step, standInReply } from '../services/ollama-stand-in.js'
import { directivesOf, tokensOf } from '../services/stand-in-reply.js'
import { deterministic } from '../services/stand-in-script.js'
import type { Random } from '../web/client/model-reply.js'
import { between } from './trial.js'

export interface Fault {
  /** The error's code; undefined where the reply is to be whole. */
  code: string | undefined
  /** Whether good tokens come before it, and how sure it is that all of them arrive. */
  after: 'nothing' | 'some' | 'some, which may be lost'
}

const inPlaceOfTokens = (code: string): Fault => ({ code, after: 'nothing' })
const amidTokens = (code: string): Fault => ({ code, after: 'some' })

/** What each of the stand-in's faults must end as. */
export const table: Readonly<Record<string, Fault>> = {
  notFound: inPlaceOfTokens('MODEL_NOT_FOUND'),
  serverError: inPlaceOfTokens('MODEL_FAILED'),
  hangBeforeHeaders: inPlaceOfTokens('MODEL_TIMEOUT'),
  hangBeforeTokens: inPlaceOfTokens('MODEL_TIMEOUT'),
  hangInErrorBody: inPlaceOfTokens('MODEL_FAILED'),
  cutBeforeHeaders: inPlaceOfTokens('MODEL_UNREACHABLE'),
  html: inPlaceOfTokens('MODEL_BAD_RESPONSE'),
  htmlAsJson: inPlaceOfTokens('MODEL_BAD_RESPONSE'),
  redirect: inPlaceOfTokens('MODEL_BAD_RESPONSE'),
  gzip: inPlaceOfTokens('MODEL_BAD_RESPONSE'),
  hangBetweenTokens: amidTokens('MODEL_TIMEOUT'),
  byteASecond: amidTokens('MODEL_TIMEOUT'),
  byteEveryMoment: amidTokens('MODEL_TIMEOUT'),
  cut: { code: 'MODEL_CUT', after: 'some, which may be lost' },
  cutCleanly: amidTokens('MODEL_CUT'),
  cutInLine: amidTokens('MODEL_CUT'),
  badJson: amidTokens('MODEL_BAD_RESPONSE'),
  badShape: amidTokens('MODEL_BAD_RESPONSE'),
  badUtf8: amidTokens('MODEL_BAD_RESPONSE'),
  loneSurrogate: amidTokens('MODEL_BAD_RESPONSE'),
  longLine: amidTokens('MODEL_BAD_RESPONSE'),
  errorLine: amidTokens('MODEL_FAILED'),
  errorLineAndEnd: amidTokens('MODEL_FAILED'),
  splitUtf8: { code: undefined, after: 'nothing' },
  none: { code: undefined, after: 'nothing' },
}

/** What Ollama's being away ends as. */
export const down = inPlaceOfTokens('MODEL_UNREACHABLE')

/** What the stand-in says before a fault in the midst. */
export function saidBefore(prompt: string, after: number): string {
  // Each of its faults begins with a token of its own.
  return `${tokensOf(standInReply(prompt)).slice(0, after).join('')}first`
}

/** The stand-in with all faults of the table: its own, and two more. */
export function faultyScript(random: Random): Script {
  return (body, model) => {
    const prompt = body.messages.findLast(({ role }) => role === 'user')?.content ?? ''
    const { fault, after } = directivesOf(prompt)
    if (fault === 'splitUtf8') return split(prompt, random)
    if (fault === 'byteEveryMoment') return slowByteByByte(prompt, after)
    return deterministic(body, model)
  }
}

/** No gap between two bytes is as long as the time allowed between two tokens. */
async function* slowByteByByte(prompt: string, after: number): AsyncGenerator<Step> {
  for (const content of tokensOf(standInReply(prompt)).slice(0, after)) yield { content }
  yield* byteEvery(20)({ model: '', messages: [] }, { continues: true })
}

/** The whole reply, any read of which may end inside a character. */
async function* split(prompt: string, random: Random): AsyncGenerator<Step> {
  const lines: object[] = tokensOf(standInReply(prompt)).map((content) => ({
    message: { content },
  }))
  lines.push({ message: { content: '' }, done: true })
  const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  for (let from = 0; from < bytes.length; ) {
    const to = from + between(random, 1, 60)
    yield { raw: bytes.subarray(from, to) }
    yield { wait: nextTurn() }
    from = to
  }
  yield { end: true }
}
