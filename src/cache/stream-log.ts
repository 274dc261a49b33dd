import type { ChainableCommander } from 'ioredis'
import { streamLogKey } from './keys.js'
import type { RedisClient } from './redis-connection.js'

/** Lengths of a reply's text and of its thinking, in UTF-16 units. */
export interface TextLengths {
  content: number
  thinking: number
}

export interface TextParts {
  content: string
  thinking: string
}

/** `tokens`: how many the texts have with it; undefined where the log adds nothing. */
type LoggedText = TextParts & { tokens?: number }

interface StreamLogEntry {
  messageId: string
  epoch: number
  /** Where the reply's texts end with this entry. */
  end: TextLengths
  /** The text since the entry before. */
  delta: TextParts
  /** How many tokens the texts have, up to this entry's end. */
  tokens: number
  /** Whether this entry renews the log's life, as the first does. */
  renews: boolean
}

/** The text of running replies, shared by servers. It may forget: readers have the checkpoint too. */
export interface StreamLog {
  /** @returns whether the entry is stored, or the log closed: nothing is left to do. */
  append(entry: StreamLogEntry): Promise<boolean>
  /** The text that follows `known` without a gap. */
  read(messageId: string, epoch: number, known: TextLengths): Promise<LoggedText>
  /** Refuses all further entries, a late owner's too. Tried again while Redis is away. */
  close(messageId: string, epoch: number): Promise<void>
  /** Ends the retries. */
  stop(): void
}

const maxEntries = 20_000
const entriesPerRead = 1000
/** The second greatest id of a stream; no entry can follow the greatest. */
const terminalId = '18446744073709551614-1'
/** Logs that could not be closed: how many are remembered, and how often closing is retried. */
const unclosedLogs = { max: 10_000, retryMs: 1000 }

/**
 * The stream log in Redis: one stream for each run of a reply. An entry's id is where the text ends
 * with it, `<content>-<1 + thinking>`: appending twice changes nothing, and a reader asks for what
 * follows the text it has.
 * @param run runs a command; resolves with undefined when Redis is away or refuses it.
 */
export function createStreamLog(
  client: RedisClient,
  run: <T>(operation: () => Promise<T>) => Promise<T | undefined>,
): StreamLog {
  const unclosed = new Map<string, () => Promise<boolean>>()
  let retry: NodeJS.Timeout | undefined
  let isStopped = false

  function retryLater(): void {
    if (isStopped || unclosed.size === 0) return
    retry ??= setTimeout(async () => {
      for (const [key, close] of unclosed) {
        if (!(await close())) break
        unclosed.delete(key)
      }
      retry = undefined
      retryLater()
    }, unclosedLogs.retryMs).unref()
  }

  return {
    async append({ messageId, epoch, end, delta, tokens, renews }) {
      const { key, ttlMs } = streamLogKey(messageId, epoch)
      const id = `${end.content}-${1 + end.thinking}`
      const entry = [
        ...['MAXLEN', '~', maxEntries, id],
        ...(delta.content ? ['d', delta.content] : []),
        ...(delta.thinking ? ['t', delta.thinking] : []),
        ...['n', tokens],
      ]
      if (!renews) {
        const added = await run(() => client.xadd(key, 'NOMKSTREAM', ...entry).catch(unlessLater))
        // Redis lost the log: begin a new one, with a life of its own.
        if (added !== null) return added !== undefined
      }
      return await did(() =>
        client
          .multi()
          .xadd(key, ...entry)
          .pexpire(key, ttlMs),
      )
    },

    async read(messageId, epoch, known) {
      const { key } = streamLogKey(messageId, epoch)
      const found = new Continuation(known)
      let after = `${known.content}-${1 + known.thinking}`
      for (;;) {
        const entries = await run(() =>
          client.xrange(key, `(${after}`, '+', 'COUNT', entriesPerRead),
        )
        for (const [id, fields] of entries ?? []) {
          if (id === terminalId || !found.take(id, fields)) return found.text
          after = id
        }
        if (!entries || entries.length < entriesPerRead) return found.text
      }
    },

    async close(messageId, epoch) {
      const { key, endedTtlMs } = streamLogKey(messageId, epoch)
      const close = () =>
        did(() => client.multi().xadd(key, terminalId, 'end', '1').pexpire(key, endedTtlMs))
      if ((await close()) || unclosed.size >= unclosedLogs.max) return
      unclosed.set(key, close)
      retryLater()
    },

    stop() {
      isStopped = true
      clearTimeout(retry)
    },
  }

  /** Runs a transaction: no entry is without a life. @returns whether it was done. */
  async function did(transaction: () => ChainableCommander): Promise<boolean> {
    const done = await run(async () => {
      for (const [error] of (await transaction().exec()) ?? []) if (error) unlessLater(error)
      return true
    })
    return done === true
  }
}

/** An entry that is not later than the last is there already, or the log was closed. */
function unlessLater(error: Error): string {
  if (!/equal or smaller than the target stream top item/.test(error.message)) throw error
  return ''
}

/** The text that the log's entries add to a text of known lengths. */
class Continuation {
  readonly text: LoggedText = { content: '', thinking: '' }

  constructor(private readonly known: TextLengths) {}

  /** @returns false when there is a gap before the entry. */
  take(id: string, fields: readonly string[]): boolean {
    const [contentEnd = 0, sequence = 0] = id.split('-').map(Number)
    const delta = { content: '', thinking: '' }
    let tokens = 0
    for (let n = 0; n + 1 < fields.length; n += 2) {
      if (fields[n] === 'd') delta.content = fields[n + 1] ?? ''
      if (fields[n] === 't') delta.thinking = fields[n + 1] ?? ''
      if (fields[n] === 'n') tokens = Number(fields[n + 1])
    }
    const isTaken =
      this.#extend('content', delta.content, contentEnd) &&
      this.#extend('thinking', delta.thinking, sequence - 1)
    if (isTaken) this.text.tokens = tokens
    return isTaken
  }

  #extend(part: keyof TextParts, delta: string, end: number): boolean {
    const have = this.known[part] + this.text[part].length
    const start = end - delta.length
    if (start > have) return false
    if (end > have) this.text[part] += delta.slice(have - start)
    return true
  }
}
