import { AppError } from '../errors.js'
import type { ChatRow, MessageText, Store } from '../stores/store.js'
import type { TokenEstimate } from './token-estimate.js'

export interface PromptMessage {
  role: 'system' | 'user' | 'assistant'
  content: string
}

export interface Window {
  model: string
  /** What is learnt of the model is known by this: its digest, where it has one. */
  key: string
  /** In tokens. */
  contextLength: number
  /** The answer's longest, in tokens, where it is bounded. */
  maxReplyTokens: number | undefined
}

export interface Prompt {
  messages: PromptMessage[]
  /** Older messages that did not fit. */
  dropped: number
}

/** Messages read at a time, while they still fit. */
const pageSize = 20

/** The tokens of the window that the answer leaves to the prompt. */
function promptRoom({ contextLength, maxReplyTokens }: Window): number {
  const quarter = Math.floor(contextLength / 4)
  const reply = maxReplyTokens === undefined ? Math.min(1024, quarter) : maxReplyTokens
  return contextLength - Math.min(reply, contextLength - quarter)
}

/**
 * Checks that a message can be answered at all.
 * @throws AppError MESSAGE_TOO_LONG when it and the system prompt alone do not fit.
 */
export function assertFits(
  window: Window,
  system: string | undefined,
  content: string,
  estimate: TokenEstimate,
): void {
  const tokens = estimate.of(window.key, content) + (system ? estimate.of(window.key, system) : 0)
  const room = promptRoom(window)
  if (tokens <= room) return
  throw new AppError('MESSAGE_TOO_LONG', {
    message:
      `The message and the system prompt take about ${tokens} tokens; ${window.model} has room ` +
      `for ${room} of its ${window.contextLength}. Shorten it, or raise options.num_ctx.`,
  })
}

/**
 * What the model is given: the system prompt and the message to answer always, and the newest whole
 * exchanges before it that fit.
 * @param replySeq the reply's `seq`, right after the message that it answers.
 * @throws AppError MESSAGE_TOO_LONG when the message alone does not fit, CHAT_NOT_FOUND when it is
 *   gone.
 */
export async function fitContext(
  store: Pick<Store, 'listTexts'>,
  chat: ChatRow,
  replySeq: number,
  window: Window,
  estimate: TokenEstimate,
): Promise<Prompt> {
  // The first page includes the message itself.
  let page = await store.listTexts(chat.id, pageSize + 1, replySeq)
  const message = page.pop()
  if (!message) throw new AppError('CHAT_NOT_FOUND')
  assertFits(window, chat.system, message.content, estimate)
  const tokensOf = (text: string) => estimate.of(window.key, text)
  let room =
    promptRoom(window) - tokensOf(message.content) - (chat.system ? tokensOf(chat.system) : 0)
  const kept: PromptMessage[] = []
  let keptFrom = message.seq

  reading: for (let before = message.seq; ; ) {
    const first = page[0]
    if (!first) break
    // A page may begin with a reply whose message is on the next page.
    const exchanges = exchangesOf(
      first.role === 'assistant' && first.seq > 1 ? page.slice(1) : page,
    )
    for (const exchange of exchanges.reverse()) {
      const texts = exchange.filter((row) => row.content !== '')
      const tokens = texts.reduce((sum, row) => sum + tokensOf(row.content), 0)
      if (tokens > room) break reading
      room -= tokens
      kept.unshift(...texts.map((row) => ({ role: row.role, content: row.content })))
      keptFrom = exchange[0]?.seq ?? keptFrom
    }
    if (keptFrom === before || keptFrom === 1) break
    before = keptFrom
    page = await store.listTexts(chat.id, pageSize, before)
  }

  return {
    messages: [
      ...(chat.system ? [{ role: 'system' as const, content: chat.system }] : []),
      ...kept,
      { role: 'user', content: message.content },
    ],
    dropped: keptFrom - 1,
  }
}

/**
 * How many of a prompt's oldest messages Ollama dropped, which it does silently; it keeps the system
 * prompt and the last message.
 * @param window the one that the model turned out to be loaded with.
 */
export function droppedByOllama(
  prompt: Prompt,
  promptTokens: number | undefined,
  { key, contextLength }: Pick<Window, 'key' | 'contextLength'>,
  estimate: TokenEstimate,
): number {
  const tokens = prompt.messages.map(({ content }) => estimate.of(key, content))
  const first = prompt.messages[0]?.role === 'system' ? 1 : 0
  const last = prompt.messages.length - 1
  // A prompt that fills the window had to be cut even without the older messages.
  if (promptTokens !== undefined && promptTokens >= contextLength) return last - first
  let total = tokens.reduce((sum, count) => sum + count, 0)
  let dropped = 0
  for (let n = first; n < last && total > contextLength; n += 1) {
    total -= tokens[n] ?? 0
    dropped += 1
  }
  return dropped
}

/** A user's message with what answered it, oldest first. */
function exchangesOf(rows: readonly MessageText[]): MessageText[][] {
  const exchanges: MessageText[][] = []
  for (const row of rows) {
    const last = exchanges.at(-1)
    if (row.role === 'assistant' && last) last.push(row)
    else exchanges.push([row])
  }
  return exchanges
}
