import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { MessageChunk } from '../../../schemas/messages.js'
import { followReply } from '../../../web/client/follow.js'
import { ReplyText } from '../../../web/client/reply-text.js'
import { chatId, ModelReply, messageId, randomFrom } from './model-reply.js'

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/** A server whose nth request is answered by the nth handler, the last one from then on. */
async function serve(t: { teardown(end: () => void): unknown }, ...handlers: Handler[]) {
  const requests: { lastEventId: string | undefined }[] = []
  const server = createServer((request, response) => {
    const handler = handlers[Math.min(requests.length, handlers.length - 1)]
    const lastEventId = request.headers['last-event-id']
    requests.push({ lastEventId: Array.isArray(lastEventId) ? lastEventId[0] : lastEventId })
    handler?.(request, response)
  })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/stream`
  const reply = new ReplyText(messageId)
  const abort = new AbortController()
  return {
    requests,
    reply,
    abort,
    follow: (
      onChange?: (reply: ReplyText) => void,
      token: Parameters<typeof followReply>[2] = 'token',
    ) => followReply(fetch, url, token, reply, abort.signal, onChange),
  }
}

const chunk = (epoch: number, offset: number, delta: string): MessageChunk => ({
  chatId,
  messageId,
  epoch,
  offset,
  delta,
})

const events = (response: ServerResponse, ...frames: MessageChunk[]) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const frame of frames) {
    response.write(`event: message-chunk\ndata: ${JSON.stringify(frame)}\n\n`)
  }
}

const final = (content: string) => {
  const message = { ...new ModelReply(randomFrom(1)).message(), content }
  return `event: message\ndata: ${JSON.stringify(message)}\n\n`
}

t.test('follows to the final record', async (t) => {
  const { requests, reply, follow } = await serve(t, (request, response) => {
    t.match(request.headers, { accept: 'text/event-stream', authorization: 'Bearer token' })
    events(response, chunk(1, 0, 'Hel'), chunk(1, 3, 'lo'))
    // The user's own record comes first where one stream carries both.
    response.write(final('hello?').replaceAll(messageId, 'b'.repeat(24)))
    response.end(final('Hello'))
  })
  const seen: string[] = []
  const message = await follow((changed) => seen.push(changed.text))
  t.equal(message.content, 'Hello')
  t.strictSame([...new Set(seen)], ['Hel', 'Hello'])
  t.equal(reply.record, message)
  t.strictSame(requests[0]?.lastEventId, undefined)
})

t.test('goes on from where it was when the connection is cut', async (t) => {
  const { requests, follow, reply } = await serve(
    t,
    (_request, response) => {
      events(response, chunk(1, 0, 'Hello '))
      response.write('event: message-chunk\ndata: {"cut', () => response.destroy())
    },
    (_request, response) => response.destroy(),
    (_request, response) => {
      events(response, chunk(2, 5, ', world'))
      response.end()
    },
    (_request, response) => {
      t.equal(reply.text, 'Hello, world')
      response.end(final('Hello, world!'))
    },
  )
  t.equal((await follow()).content, 'Hello, world!')
  t.strictSame(
    requests.map(({ lastEventId }) => lastEventId),
    [undefined, `${messageId}:1:6`, `${messageId}:1:6`, `${messageId}:2:12`],
  )
})

t.test('a gap, and an epoch that was skipped, lead to another request', async (t) => {
  const { requests, follow } = await serve(
    t,
    (_request, response) => events(response, chunk(1, 0, 'Hello'), chunk(1, 9, 'gap')),
    (_request, response) => events(response, chunk(4, 5, ' four')),
    (_request, response) => response.end(final('whole')),
  )
  t.equal((await follow()).content, 'whole')
  t.strictSame(
    requests.map(({ lastEventId }) => lastEventId),
    [undefined, `${messageId}:1:5`, undefined],
  )
})

/** Waits between tries, 8 s at most, are over at once. @returns how long each was to be, in milliseconds. */
function skipWaits(t: { teardown(end: () => void): unknown }): number[] {
  const wait = globalThis.setTimeout
  const asked: number[] = []
  t.teardown(() => {
    globalThis.setTimeout = wait
  })
  globalThis.setTimeout = Object.assign((run: () => void, ms = 0) => {
    asked.push(ms)
    return wait(run, ms <= 8000 ? 0 : ms)
  }, wait)
  return asked
}

t.test('obeys Retry-After', async (t) => {
  const waits = skipWaits(t)
  const { follow } = await serve(
    t,
    (_request, response) => response.writeHead(503, { 'retry-after': '7' }).end(),
    (_request, response) => response.end(final('here')),
  )
  t.equal((await follow()).content, 'here')
  t.ok(waits.includes(7000), `${waits}`)
})

t.test('does not retry what a retry would not change', async (t) => {
  for (const status of [401, 404]) {
    const { requests, follow } = await serve(t, (_request, response) =>
      response.writeHead(status).end('{}'),
    )
    await t.rejects(follow(), { name: 'ChatError', status, retryable: false })
    t.equal(requests.length, 1)
  }
})

t.test('ends at once when it is aborted, whatever it waits for', async (t) => {
  const reading = await serve(t, (_request, response) => {
    events(response, chunk(1, 0, 'Hel'))
  })
  await t.rejects(
    reading.follow(() => reading.abort.abort(new Error('left'))),
    /left/,
  )
  const waiting = await serve(t, (_request, response) => {
    response.writeHead(503, { 'retry-after': '60' }).end()
    response.on('close', () => waiting.abort.abort(new Error('left too')))
  })
  await t.rejects(waiting.follow(), /left too/)
})

t.test('gives up after a bounded number of tries', async (t) => {
  skipWaits(t)
  const { requests, follow } = await serve(t, (_request, response) => response.writeHead(503).end())
  await t.rejects(follow(), /503/)
  t.equal(requests.length, 9)
})

t.test('a stream that the server ends with an error says why', async (t) => {
  const { follow, requests } = await serve(t, (_request, response) => {
    events(response, chunk(1, 0, 'Hel'))
    const error = { code: 'LOGGED_OUT', message: '', retryable: false }
    response.end(`event: error\ndata: ${JSON.stringify(error)}\n\n`)
  })
  await t.rejects(follow(), { name: 'ChatError', status: 401, code: 'LOGGED_OUT' })
  t.equal(requests.length, 1)
})

t.test('a token that has expired is replaced by a fresh one, once', async (t) => {
  const given: (string | undefined)[] = []
  const { follow } = await serve(t, ({ headers }, response) => {
    given.push(headers.authorization)
    if (headers.authorization !== 'Bearer second') response.writeHead(401).end()
    else {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.end(final('Hello'))
    }
  })
  const tokens = ['first', 'second']
  t.match(await follow(undefined, async () => tokens.shift() ?? ''), { content: 'Hello' })
  t.same(given, ['Bearer first', 'Bearer second'])
  await t.rejects(
    follow(undefined, async () => 'stale'),
    { name: 'ChatError', status: 401 },
  )
  t.equal(given.length, 4, 'the same token is tried no third time')
})
