/** One event of a `text/event-stream`. */
export interface StreamEvent {
  event: string
  data: string
  /** The last id that the stream gave; empty before the first. */
  id: string
}

/** A body of bytes: an async iterable, or a browser's stream, which not everywhere is one. */
export type Bytes =
  | AsyncIterable<Uint8Array>
  | {
      getReader(): {
        read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>
        cancel(): Promise<unknown>
      }
    }

/** A line longer than this, in UTF-16 units, is not one of ours. */
const maxLine = 8 * 1024 * 1024

async function* chunks(body: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
  if (Symbol.asyncIterator in body) {
    yield* body
    return
  }
  const reader = body.getReader()
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      if (next.value) yield next.value
    }
  } finally {
    await reader.cancel()
  }
}

/** Lines that end in LF, CR or CRLF; one that nothing ends is left out, as the standard has it. */
async function* lines(body: Bytes, heard: () => void): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder()
  let rest = ''
  let afterCr = false
  for await (const bytes of chunks(body)) {
    heard()
    let text = decoder.decode(bytes, { stream: true })
    if (text === '') continue
    if (afterCr && text.startsWith('\n')) text = text.slice(1)
    afterCr = text.endsWith('\r')
    const parts = (rest + text).split(/\r\n|\r|\n/)
    rest = parts.pop() ?? ''
    if (rest.length > maxLine) throw new Error('The event stream has a line without end.')
    yield* parts
  }
}

/**
 * Parses server-sent events, however the network cut them.
 * @param heard called whenever bytes come, heartbeats included.
 * @throws Error when a line exceeds 8 Mi UTF-16 units, and whatever the body throws.
 */
export async function* readEvents(
  body: Bytes,
  heard: () => void = () => {},
): AsyncGenerator<StreamEvent, void, undefined> {
  let event = ''
  let id = ''
  let data: string[] = []
  for await (const line of lines(body, heard)) {
    if (line === '') {
      if (data.length > 0) yield { event: event || 'message', data: data.join('\n'), id }
      event = ''
      data = []
      continue
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
    if (field === 'data') data.push(value)
    else if (field === 'event') event = value
    else if (field === 'id' && !value.includes('\0')) id = value
  }
}
