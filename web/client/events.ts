import { createParser } from 'eventsource-parser'

/** One event of a `text/event-stream`. */
export interface StreamEvent {
  event: string
  data: string
  /** The stream's last id so far; empty before the first. */
  id: string
}

/** A body of bytes: an async iterable, or a stream of a browser where streams are not iterable. */
export type Bytes =
  | AsyncIterable<Uint8Array>
  | {
      getReader(): {
        read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>
        cancel(): Promise<unknown>
      }
    }

/** The longest event, in UTF-16 units; the server sends none that is longer. */
const maxEventUnits = 8 * 1024 * 1024

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

/**
 * Parses server-sent events, wherever the network cut them.
 * @param heard called whenever bytes come, heartbeats included.
 * @throws ParseError when an event exceeds 8 Mi UTF-16 units, and whatever the body throws.
 */
export async function* readEvents(
  body: Bytes,
  heard: () => void = () => {},
): AsyncGenerator<StreamEvent, void, undefined> {
  const events: StreamEvent[] = []
  let id = ''
  const parser = createParser({
    maxBufferSize: maxEventUnits,
    onEvent(message) {
      id = message.id ?? id
      events.push({ event: message.event ?? 'message', data: message.data, id })
    },
    onError(error) {
      // Unknown fields are ignored, as the standard says.
      if (error.type === 'max-buffer-size-exceeded') throw error
    },
  })
  const decoder = new TextDecoder()
  for await (const bytes of chunks(body)) {
    heard()
    parser.feed(decoder.decode(bytes, { stream: true }))
    yield* events.splice(0)
  }
}
