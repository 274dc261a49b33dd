import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { type Bytes, readEvents, type StreamEvent } from '../../../web/client/events.js'

async function* pieces(...bytes: Uint8Array[]) {
  yield* bytes
}

async function parse(body: Bytes): Promise<StreamEvent[]> {
  const events: StreamEvent[] = []
  for await (const event of readEvents(body)) events.push(event)
  return events
}

const parseText = (text: string) => parse(pieces(Buffer.from(text)))

const everything = [
  '\u{FEFF}: a comment\r\n',
  'event: message-chunk\r\nid: m:1:5\r\ndata: {"delta":"é漢😀"}\r\n\r\n',
  'data: one\rdata\rdata:three\r\r',
  ':\n\nretry: 10\nunknown: x\nevent: nothing\n\n',
  'id: bad\0id\ndata: last\n\n',
  'data: never ended\n',
].join('')

const expected: StreamEvent[] = [
  { event: 'message-chunk', id: 'm:1:5', data: '{"delta":"é漢😀"}' },
  { event: 'message', id: 'm:1:5', data: 'one\n\nthree' },
  { event: 'message', id: 'm:1:5', data: 'last' },
]

t.test('events, ids, comments, data of many lines, and each kind of line end', async (t) => {
  t.strictSame(await parseText(everything), expected)
})

t.test('however the network cuts the bytes', async (t) => {
  const bytes = Buffer.from(everything)
  for (let place = 0; place <= bytes.length; place += 1) {
    const events = await parse(pieces(bytes.subarray(0, place), bytes.subarray(place)))
    t.strictSame(events, expected, `cut at ${place}`)
  }
  t.strictSame(await parse(pieces(...Array.from(bytes, (byte) => Buffer.of(byte)))), expected)
})

t.test('only one space after the colon is not the value’s', async (t) => {
  t.strictSame(
    (await parseText('data:  two: colons\n\ndata:\n\n')).map((event) => event.data),
    [' two: colons', ''],
  )
})

t.test('a line without end is an error', async (t) => {
  const piece = Buffer.alloc(1024 * 1024, 'x')
  await t.rejects(parse(pieces(...Array<Uint8Array>(9).fill(piece))), {
    name: 'ParseError',
    type: 'max-buffer-size-exceeded',
  })
})

t.test('a browser’s stream is read too, and cancelled when its reader leaves', async (t) => {
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(Buffer.from('data: again\n\n')),
    cancel: () => {
      cancelled = true
    },
  })
  const reader = { getReader: () => body.getReader() }
  for await (const event of readEvents(reader)) {
    t.equal(event.data, 'again')
    break
  }
  t.ok(cancelled)
})

t.test('whatever is heard is told of, heartbeats included', async (t) => {
  const server = createServer((_request, response) => response.end(': heartbeat\n\n'))
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const { body } = await fetch(`http://127.0.0.1:${port}`)
  let heard = 0
  const events = body
    ? readEvents(body, () => {
        heard += 1
      })
    : []
  for await (const event of events) t.fail(event.data)
  t.equal(heard, 1)
})
