import { badResponse, isRecord, reportedError } from './model-errors.js'

/** What Ollama reports when a reply is done; a field that it leaves out (a zero) is absent. */
export interface ChatResult {
  /** `stop`, `length`, `load` or `unload`. */
  doneReason?: string
  /** Set where the model called tools, in any line. */
  calledTools?: true
  promptTokens?: number
  replyTokens?: number
  totalMs?: number
  loadMs?: number
  promptMs?: number
  replyMs?: number
}

export interface ChatLine {
  content: string
  thinking: string
  calledTools: boolean
  /** Set on the last line. */
  result?: ChatResult
}

/**
 * Reads one line of the stream of /api/chat.
 * @throws AppError MODEL_FAILED for a line that reports an error, MODEL_BAD_RESPONSE for any other
 * that is not of the protocol.
 */
export function parseChatLine(line: string): ChatLine {
  const value = parseObject(line)
  if (value.error !== undefined) {
    throw reportedError(typeof value.error === 'string' ? value.error : JSON.stringify(value.error))
  }
  const done = value.done === true
  if (!isRecord(value.message) && !(done && value.message === undefined)) {
    throw badResponse('a line without a message')
  }
  const message = isRecord(value.message) ? value.message : {}
  const content = textOf(message.content)
  const thinking = textOf(message.thinking)
  const calledTools = Array.isArray(message.tool_calls) && message.tool_calls.length > 0
  const text = { content, thinking, calledTools }
  return done ? { ...text, result: resultOf(value) } : text
}

function parseObject(line: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw badResponse('a line that is not JSON', cause)
  }
  if (!isRecord(value)) throw badResponse('a line that is not an object')
  return value
}

function textOf(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (typeof value !== 'string') throw badResponse('a message whose text is not a string')
  if (!value.isWellFormed()) throw badResponse('half of a surrogate pair')
  return value
}

function resultOf(line: Record<string, unknown>): ChatResult {
  const fields: [keyof ChatResult, string | number | undefined][] = [
    ['doneReason', reasonOf(line.done_reason)],
    ['promptTokens', amount(line.prompt_eval_count)],
    ['replyTokens', amount(line.eval_count)],
    ['totalMs', milliseconds(line.total_duration)],
    ['loadMs', milliseconds(line.load_duration)],
    ['promptMs', milliseconds(line.prompt_eval_duration)],
    ['replyMs', milliseconds(line.eval_duration)],
  ]
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined))
}

function reasonOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[a-z_]{1,40}$/.test(value) ? value : undefined
}

function amount(value: unknown): number | undefined {
  // JSON has numbers that are infinite here.
  return typeof value === 'number' && value >= 0 && Number.isFinite(value) ? value : undefined
}

function milliseconds(nanoseconds: unknown): number | undefined {
  const known = amount(nanoseconds)
  return known === undefined ? undefined : known / 1e6
}
