import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { AppError } from '../../src/errors.js'
import { type Arriving, createOllamaClient, type OllamaClient } from '../../src/ollama/client.js'
import {
  byteEvery,
  faults,
  never,
  type Script,
  type StandInOptions,
  type Step,
  standInModel,
  standInReply,
  standInThinking,
  startStandIn,
} from '../services/ollama-stand-in.js'
import { selfSigned } from '../services/self-signed.js'

const limits = { connectTimeoutMs: 2_000, firstTokenTimeoutMs: 10_000, idleTimeoutMs: 10_000 }

async function start(t: Test, options?: StandInOptions, overrides: Partial<typeof limits> = {}) {
  const standIn = await startStandIn(options)
  const client = createOllamaClient({ url: standIn.url, ...limits, ...overrides })
  t.teardown(async () => {
    await client.close()
    await standIn.close()
  })
  return { standIn, client }
}

/** A bare TCP server; its connections may be reset without a word. */
async function listen(t: Test, onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {
      // The client resets what it can't read.
    })
    onSocket(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

function deferred() {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve: () => resolve() }
}

/** Calls the stand-in's model; whatever is heard after the end fails the test. */
function chat(
  t: Test,
  client: OllamaClient,
  prompt: string,
  signal = new AbortController().signal,
) {
  const heard = { content: '', thinking: '', deltas: [] as string[] }
  let over = false
  const outcome = client.chat(
    { model: 'stand-in', messages: [{ role: 'user', content: prompt }] },
    (content, thinking) => {
      if (over) t.fail('a delta came after the end')
      heard.content += content
      heard.thinking += thinking
      heard.deltas.push(content)
    },
    signal,
  )
  const settled = outcome.then(
    () => {
      over = true
    },
    () => {
      over = true
    },
  )
  return { outcome, heard, settled }
}

t.test('a reply comes whole, with what it took, and the connection is kept', async (t) => {
  const { standIn, client } = await start(t)
  const prompt = 'len=3000 think=500 seed=11'
  const { outcome, heard } = chat(t, client, prompt)
  const result = await outcome
  t.equal(heard.content, standInReply(prompt))
  t.equal(heard.content.length, 3000)
  t.equal(heard.thinking, standInThinking(prompt))
  t.equal(result.doneReason, 'stop')
  t.equal(result.promptTokens, prompt.length)
  t.equal(result.promptMs, 1)
  t.notOk('loadMs' in result, 'a field that Ollama leaves out stays out')
  const call = await standIn.chatCall()
  t.equal(call.headers['accept-encoding'], 'identity')
  t.strictSame(call.body.stream, true)

  // The client has its turn to see the end of the body, then there is a connection to use again.
  for (let i = 0; i < 5; i += 1) {
    await call.whenOver
    await nextTurn()
    await chat(t, client, prompt).outcome
  }
  t.ok(new Set(standIn.calls.map(({ connection }) => connection)).size < 6)
})

t.test('options and think are handed on, and a begun answer is gone on from', async (t) => {
  const { standIn, client } = await start(t)
  const prompt = 'len=400 seed=3'
  const whole = standInReply(prompt)
  let rest = ''
  const result = await client.chat(
    {
      model: 'stand-in:latest',
      messages: [
        { role: 'user', content: prompt },
        { role: 'assistant', content: whole.slice(0, 100) },
      ],
      options: { temperature: 0, num_predict: 10 },
      think: false,
    },
    (content) => {
      rest += content
    },
    new AbortController().signal,
  )
  t.ok(rest.length > 0 && whole.startsWith(whole.slice(0, 100) + rest))
  t.equal(result.doneReason, 'length')
  t.equal(result.replyTokens, 10)
  const { body } = await standIn.chatCall()
  t.strictSame(body.options, { temperature: 0, num_predict: 10 })
  t.equal(body.think, false)
})

const failures: [fault: keyof typeof faults, code: string, message: RegExp, told: string][] = [
  ['notFound', 'MODEL_NOT_FOUND', /"nope" not found/, ''],
  ['serverError', 'MODEL_FAILED', /runner process has terminated/, ''],
  ['cutBeforeHeaders', 'MODEL_UNREACHABLE', /./, ''],
  ['cut', 'MODEL_CUT', /./, 'first'],
  ['cutInLine', 'MODEL_CUT', /./, 'first'],
  ['cutCleanly', 'MODEL_CUT', /./, 'first'],
  ['badJson', 'MODEL_BAD_RESPONSE', /not JSON/, 'first'],
  ['badShape', 'MODEL_BAD_RESPONSE', /without a message/, 'first'],
  ['badUtf8', 'MODEL_BAD_RESPONSE', /UTF-8/, 'first'],
  ['loneSurrogate', 'MODEL_BAD_RESPONSE', /surrogate/, 'first'],
  ['html', 'MODEL_BAD_RESPONSE', /text\/html/, ''],
  ['htmlAsJson', 'MODEL_BAD_RESPONSE', /not JSON/, ''],
  ['redirect', 'MODEL_BAD_RESPONSE', /HTTP 302/, ''],
  ['errorLine', 'MODEL_FAILED', /out of memory/, 'first'],
  ['errorLineAndEnd', 'MODEL_FAILED', /out of memory/, 'first'],
  ['longLine', 'MODEL_BAD_RESPONSE', /1048576 bytes/, 'first'],
  ['gzip', 'MODEL_BAD_RESPONSE', /gzip/, ''],
]
/** Answers that ended as HTTP means it leave a good connection behind. */
const ended = ['notFound', 'serverError', 'cutCleanly']

for (const [fault, code, message, told] of failures) {
  t.test(`${fault} is ${code}, and the call is over at Ollama`, async (t) => {
    const { standIn, client } = await start(t, { script: faults[fault] })
    const { outcome, heard } = chat(t, client, '')
    const error = await outcome.catch((error: unknown) => error)
    t.match(error, { code, message })
    t.ok(error instanceof AppError)
    t.equal(heard.content, told)
    const call = await standIn.chatCall()
    if (ended.includes(fault)) {
      await call.whenOver
      t.ok(call.answered)
    } else {
      await call.whenClosed
    }
    standIn.setScript()
    await chat(t, client, 'len=50').outcome
    t.pass('the next call is answered')
  })
}

const hangs: [name: string, script: Script, told: string][] = [
  ['before the headers', faults.hangBeforeHeaders, ''],
  ['before the first token', faults.hangBeforeTokens, ''],
  ['between tokens', faults.hangBetweenTokens, 'first'],
  ['with a byte now and then', byteEvery(10), 'first'],
]
for (const [name, script, told] of hangs) {
  t.test(`an Ollama that hangs ${name} is MODEL_TIMEOUT`, async (t) => {
    const overrides = { firstTokenTimeoutMs: 300, idleTimeoutMs: 200 }
    const { standIn, client } = await start(t, { script }, overrides)
    const { outcome, heard } = chat(t, client, '')
    await t.rejects(outcome, { code: 'MODEL_TIMEOUT' })
    t.equal(heard.content, told)
    await (await standIn.chatCall()).whenClosed
  })
}

t.test('tokens that keep coming are never a timeout', async (t) => {
  async function* slow(): AsyncGenerator<Step> {
    for (let i = 0; i < 12; i += 1) {
      yield { content: 'x' }
      yield { wait: delay(50) }
    }
  }
  const overrides = { firstTokenTimeoutMs: 400, idleTimeoutMs: 400 }
  const { client } = await start(t, { script: slow }, overrides)
  const { outcome, heard } = chat(t, client, '')
  await outcome
  t.equal(heard.content.length, 12)
})

t.test(
  'a process that was busy hears what came meanwhile before it calls Ollama late',
  async (t) => {
    async function* busy(): AsyncGenerator<Step> {
      yield { content: 'first' }
      yield { wait: delay(50) }
      const until = performance.now() + 400
      while (performance.now() < until) {
        // Nothing else of this process runs.
      }
      yield { content: ' second' }
    }
    const { client } = await start(t, { script: busy }, { idleTimeoutMs: 200 })
    const { outcome, heard } = chat(t, client, '')
    await outcome
    t.equal(heard.content, 'first second')
  },
)

t.test('an error body that hangs or has no end is given up', async (t) => {
  const { standIn, client } = await start(t, {}, { idleTimeoutMs: 100 })
  standIn.setScript(faults.hangInErrorBody)
  await t.rejects(chat(t, client, '').outcome, { code: 'MODEL_FAILED', message: /HTTP 503/ })
  await (await standIn.chatCall(1)).whenClosed
  standIn.setScript(function* () {
    yield { status: 500 }
    for (;;) yield { raw: 'x'.repeat(16_384) }
  })
  await t.rejects(chat(t, client, '').outcome, { code: 'MODEL_FAILED', message: /HTTP 500/ })
  await (await standIn.chatCall(2)).whenClosed
})

t.test('Ollama’s own words are kept to 300 characters of one line', async (t) => {
  const reason = `bad\u0000\nnews ${'😀'.repeat(400)}`
  const { client } = await start(t, { script: () => [{ line: { error: reason } }] })
  const error = await chat(t, client, '').outcome.catch((error: AppError) => error)
  t.match(error, { code: 'MODEL_FAILED', message: /: bad news 😀+…$/u })
  t.ok(error instanceof AppError && error.message.length < 340)
})

t.test('nothing that listens is MODEL_UNREACHABLE, and later it is there', async (t) => {
  const { standIn, client } = await start(t)
  await standIn.stop()
  await t.rejects(chat(t, client, '').outcome, { code: 'MODEL_UNREACHABLE' })
  await t.rejects(client.list(), { code: 'MODEL_UNREACHABLE' })
  await standIn.restart()
  await chat(t, client, '').outcome
})

t.test('a connection that is never ready is MODEL_UNREACHABLE in time', async (t) => {
  // It swallows the TLS handshake.
  const sockets: Socket[] = []
  const port = await listen(t, (socket) => sockets.push(socket))
  const url = `https://127.0.0.1:${port}`
  const client = createOllamaClient({ url, ...limits, connectTimeoutMs: 100 })
  t.teardown(() => client.close())
  await t.rejects(chat(t, client, '').outcome, { code: 'MODEL_UNREACHABLE' })
  for (const socket of sockets) socket.destroy()
})

t.test('what is not HTTP is MODEL_BAD_RESPONSE', async (t) => {
  const port = await listen(t, (socket) => {
    socket.once('data', () => socket.write('-ERR unknown command\r\n'))
  })
  const client = createOllamaClient({ url: `http://127.0.0.1:${port}`, ...limits })
  t.teardown(() => client.close())
  await t.rejects(chat(t, client, '').outcome, { code: 'MODEL_BAD_RESPONSE', message: /not HTTP/ })
})

t.test('a body cut short over a connection that is not kept is MODEL_CUT', async (t) => {
  const head =
    'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n' +
    'transfer-encoding: chunked\r\n\r\n'
  const port = await listen(t, (socket) => {
    socket.once('data', () => socket.end(`${head}50\r\n{"message":{"content":"a"}}\n`))
  })
  const client = createOllamaClient({ url: `http://127.0.0.1:${port}`, ...limits })
  t.teardown(() => client.close())
  const { outcome, heard } = chat(t, client, '')
  await t.rejects(outcome, { code: 'MODEL_CUT' })
  t.equal(heard.content, 'a')
})

t.test('characters come whole wherever the chunks end', async (t) => {
  const text = 'é日😀👩‍👩‍👧‍👦e\u0301'
  const bytes = Buffer.from(`${JSON.stringify({ message: { content: text }, done: false })}\n`)
  let at = 0
  const { client } = await start(t, {
    script: () => [{ raw: bytes.subarray(0, at) }, { wait: delay(1) }, { raw: bytes.subarray(at) }],
  })
  for (at = 1; at < bytes.length; at += 1) {
    const { outcome, heard } = chat(t, client, '')
    await outcome
    t.equal(heard.content, text, `cut at byte ${at}`)
  }
})

t.test('lines that come in one read are told one by one', async (t) => {
  const line = (text: string) => `${JSON.stringify({ message: { content: text }, done: false })}\n`
  const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
  const port = await listen(t, (socket) => {
    socket.once('data', () => {
      // Each line in an HTTP chunk of its own, as Ollama sends them, all in one packet.
      const head =
        'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n'
      const lines = Array.from({ length: 50 }, (_, i) => chunk(line(`${i} `)))
      socket.write([head, ...lines, chunk('{"done":true}\n'), '0\r\n\r\n'].join(''))
    })
  })
  const client = createOllamaClient({ url: `http://127.0.0.1:${port}`, ...limits })
  t.teardown(() => client.close())
  const { outcome, heard } = chat(t, client, '')
  t.strictSame(await outcome, {})
  t.strictSame(
    heard.deltas,
    Array.from({ length: 50 }, (_, i) => `${i} `),
  )
})

t.test(
  'after the first line a call is read when its reader wants, or when it is over',
  async (t) => {
    const gate = deferred()
    const { client } = await start(t, {
      script: async function* () {
        for (const content of ['1', '2', '3']) yield { content }
        yield { wait: gate.promise }
        yield { content: '4' }
      },
    })
    const told: string[] = []
    let arriving: Arriving | undefined
    let flows = false
    const arrived = deferred()
    const outcome = client.chat(
      { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
      (content) => told.push(content),
      new AbortController().signal,
      (more) => {
        arriving = more
        arrived.resolve()
        if (!flows) return
        // A turn later, as the end may come with the last of it.
        setImmediate(() => {
          more.read()
          more.fetch()
        })
      },
    )
    await arrived.promise
    t.strictSame(told, ['1'], 'the first at once, the others not yet')
    arriving?.read()
    t.equal(told[1], '2')
    flows = true
    arriving?.fetch()
    gate.resolve()
    await outcome
    t.strictSame(told, ['1', '2', '3', '4'], 'nothing is left unread at the end')
  },
)

t.test('what follows stays with the operating system until it is fetched', async (t) => {
  const [first, arrived, next] = [deferred(), deferred(), deferred()]
  const [vain, fifth, sixth] = [deferred(), deferred(), deferred()]
  const { client } = await start(t, {
    script: async function* () {
      yield { content: '1' }
      yield { wait: first.promise }
      yield { content: '2' }
      yield { wait: arrived.promise }
      for (const content of ['3', '4']) yield { content }
      yield { wait: nextTurn() }
      next.resolve()
      yield { wait: vain.promise }
      yield { content: '5' }
      yield { wait: fifth.promise }
      yield { content: '6' }
      yield { wait: nextTurn() }
      sixth.resolve()
      yield { wait: never }
    },
  })
  const told: string[] = []
  const arrivals: Arriving[] = []
  const stop = new AbortController()
  const outcome = client.chat(
    { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
    (content) => {
      told.push(content)
      first.resolve()
    },
    stop.signal,
    (arriving) => {
      arrivals.push(arriving)
      arrived.resolve()
      if (told.length === 4) fifth.resolve()
    },
  )
  await next.promise
  for (let turn = 0; turn < 5; turn++) await nextTurn()
  const [arriving] = arrivals
  if (!arriving) return t.fail('no arrival was told')
  arriving.fetch()
  t.equal(arriving.isHeld, true, 'nothing is fetched before what was taken is read')
  arriving.read()
  t.strictSame(told, ['1', '2'], 'one packet was taken')
  arriving.fetch()
  // No turn of the loop: it is not asked, and was not woken.
  await new Promise<void>((resolve) => process.nextTick(resolve))
  t.strictSame(told, ['1', '2'], 'and what was fetched is told when it is read')
  arriving.read()
  t.strictSame(told, ['1', '2', '3', '4'])
  t.equal(arriving.isHeld, true, 'what follows waits again')
  arriving.fetch()
  t.equal(arriving.isHeld, false)
  vain.resolve()
  await sixth.promise
  for (let turn = 0; turn < 5; turn++) await nextTurn()
  arriving.read()
  t.strictSame(told.slice(4), ['5'], 'what comes after one in vain is taken as it comes')
  arriving.fetch()
  await new Promise<void>((resolve) => process.nextTick(resolve))
  arriving.read()
  t.strictSame(told.slice(5), [], 'and the next is left to the loop')
  for (let turn = 0; turn < 2; turn++) await nextTurn()
  arriving.read()
  t.strictSame(told.slice(5), ['6'])
  stop.abort(new Error('stopped'))
  await t.rejects(outcome, { message: 'stopped' })
})

/** The head of an answer that is streamed, and a line of it in a chunk of its own. */
const head =
  'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n'
const chunk = (content: string, done = false) => {
  const line = `${JSON.stringify({ message: { content }, done })}\n`
  return `${line.length.toString(16)}\r\n${line}\r\n`
}

for (const [name, cut] of [
  ['a reset', (socket: Socket) => socket.resetAndDestroy()],
  ['an end', (socket: Socket) => socket.end()],
] as const) {
  t.test(`${name} that comes while nobody reads is found when it is fetched`, async (t) => {
    const second = deferred()
    let server: Socket | undefined
    const port = await listen(t, (socket) => {
      server = socket.setNoDelay(true)
      socket.once('data', async () => {
        socket.write(`${head}${chunk('1')}`)
        await second.promise
        socket.write(chunk('2'))
      })
    })
    const client = createOllamaClient({ url: `http://127.0.0.1:${port}`, ...limits })
    t.teardown(() => client.close())
    const told: string[] = []
    let arrive: (arriving: Arriving) => void = () => {}
    const arrived = new Promise<Arriving>((resolve) => {
      arrive = resolve
    })
    const outcome = client.chat(
      { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
      (content) => {
        told.push(content)
        second.resolve()
      },
      new AbortController().signal,
      (arriving) => arrive(arriving),
    )
    let isOver = false
    outcome.catch(() => {
      isOver = true
    })
    const arriving = await arrived
    arriving.read()
    await nextTurn()
    t.equal(arriving.isHeld, true)
    if (!server) return t.fail('nobody called')
    const gone = once(server, 'close')
    cut(server)
    if (name === 'a reset') await gone
    for (let turn = 0; turn < 5; turn++) await nextTurn()
    t.equal(isOver, false, 'nobody looked')
    arriving.fetch()
    await t.rejects(outcome, { code: 'MODEL_CUT' })
    t.strictSame(told, ['1', '2'])
    await gone
  })
}

t.test('an encrypted connection is read by the loop', async (t) => {
  const [first, arrived, written] = [deferred(), deferred(), deferred()]
  const server = createTlsServer(selfSigned, (socket) => {
    socket.setNoDelay(true).once('data', async () => {
      socket.write(`${head}${chunk('1')}`)
      await first.promise
      socket.write(chunk('2'))
      await arrived.promise
      socket.write(`${chunk('3')}${chunk('', true)}0\r\n\r\n`, () => written.resolve())
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { NODE_TLS_REJECT_UNAUTHORIZED: before } = process.env
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  const { port } = server.address() as AddressInfo
  const client = createOllamaClient({ url: `https://127.0.0.1:${port}`, ...limits })
  t.teardown(async () => {
    if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before
    await client.close()
    server.close()
  })
  const told: string[] = []
  await client.chat(
    { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
    (content) => {
      told.push(content)
      first.resolve()
    },
    new AbortController().signal,
    async (arriving) => {
      arriving.read()
      arrived.resolve()
      await written.promise
      arriving.fetch()
      await nextTurn()
      arriving.read()
    },
  )
  t.strictSame(told, ['1', '2', '3'])
})

t.test('a packet that brings nothing of a line is told as an arrival', async (t) => {
  const port = await listen(t, (socket) => {
    socket.setNoDelay(true).once('data', async () => {
      socket.write(`${head}${chunk('1')}`)
      for (const byte of `${chunk('2')}${chunk('3', true)}0\r\n\r\n`) {
        await delay(2)
        socket.write(byte)
      }
    })
  })
  const client = createOllamaClient({ url: `http://127.0.0.1:${port}`, ...limits })
  t.teardown(() => client.close())
  const told: string[] = []
  await client.chat(
    { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
    (content) => told.push(content),
    new AbortController().signal,
    (arriving) => {
      arriving.fetch()
      setImmediate(() => arriving.read())
    },
  )
  t.strictSame(told, ['1', '2', '3'])
})

t.test('abort closes the connection at once and rejects with its reason', async (t) => {
  const { standIn, client } = await start(t, { script: faults.hangBetweenTokens })
  const stop = new AbortController()
  const first = deferred()
  const outcome = client.chat(
    { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
    () => first.resolve(),
    stop.signal,
  )
  await first.promise
  const reason = new Error('stopped')
  const call = await standIn.chatCall()
  const order: string[] = []
  const closed = call.whenClosed.then(() => order.push('closed'))
  const late = delay(100).then(() => order.push('100 ms'))
  stop.abort(reason)
  await t.rejects(outcome, reason)
  await Promise.all([closed, late])
  t.equal(order[0], 'closed')
})

t.test('abort before, and while it waits for the headers', async (t) => {
  const { standIn, client } = await start(t, { script: faults.hangBeforeHeaders })
  const reason = new Error('stopped')
  await t.rejects(chat(t, client, '', AbortSignal.abort(reason)).outcome, reason)
  t.equal(standIn.calls.length, 0)
  const stop = new AbortController()
  const { outcome } = chat(t, client, '', stop.signal)
  const call = await standIn.chatCall()
  stop.abort(reason)
  await t.rejects(outcome, reason)
  await call.whenClosed
})

t.test('abort while it connects leaves no call behind', async (t) => {
  const { standIn, client } = await start(t)
  const stop = new AbortController()
  const { outcome } = chat(t, client, 'aborted', stop.signal)
  stop.abort(new Error('stopped'))
  await t.rejects(outcome, { message: 'stopped' })
  await chat(t, client, 'after').outcome
  t.strictSame(
    standIn.calls.map(({ body }) => body.messages[0]?.content),
    ['after'],
  )
})

t.test('what the listener throws ends the call', async (t) => {
  const { standIn, client } = await start(t, { script: faults.hangBetweenTokens })
  const outcome = client.chat(
    { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
    () => {
      throw new Error('listener failed')
    },
    new AbortController().signal,
  )
  await t.rejects(outcome, { message: 'listener failed' })
  await (await standIn.chatCall()).whenClosed
})

t.test('lines after done are ignored, and a body that never ends is closed', async (t) => {
  const { standIn, client } = await start(t, {
    script: () => [
      { content: 'all' },
      { line: { done: true, done_reason: 'stop' } },
      { content: 'more' },
      { raw: 'not json\n' },
      { wait: never },
    ],
  })
  const { outcome, heard } = chat(t, client, '')
  t.strictSame(await outcome, { doneReason: 'stop' })
  await (await standIn.chatCall()).whenClosed
  t.equal(heard.content, 'all')
})

t.test('100 calls at once are 100 connections', async (t) => {
  const gate = deferred()
  const { standIn, client } = await start(t, { script: () => [{ wait: gate.promise }] })
  const outcomes = Array.from({ length: 100 }, () => chat(t, client, '').outcome)
  await standIn.chatCall(100)
  gate.resolve()
  await Promise.all(outcomes)
  t.equal(new Set(standIn.calls.map(({ connection }) => connection)).size, 100)
})

t.test('close ends what runs with SHUTTING_DOWN', async (t) => {
  const { standIn, client } = await start(t, { script: faults.hangBetweenTokens })
  const { outcome, settled } = chat(t, client, '')
  const call = await standIn.chatCall()
  await Promise.all([t.rejects(outcome, { code: 'SHUTTING_DOWN' }), client.close()])
  await settled
  await call.whenClosed
  await t.rejects(chat(t, client, '').outcome, { code: 'SHUTTING_DOWN' })
  await t.rejects(client.version(), { code: 'SHUTTING_DOWN' })
})

t.test('what Ollama tells of its models', async (t) => {
  const { client, standIn } = await start(t)
  t.match(await client.list(), [
    {
      name: 'stand-in:latest',
      size: 135_000_000,
      modifiedAt: '2026-01-02T02:04:05.678Z',
      details: { format: 'gguf', families: ['standin'] },
      digest: /^[0-9a-f]{64}$/,
    },
  ])
  t.match(await client.show('stand-in'), {
    template: /\$last/,
    capabilities: standInModel.capabilities,
    contextLength: 8192,
  })
  t.strictSame(await client.loaded(), new Map([['stand-in:latest', 4096]]))
  t.match(await client.version(), /^\d+\.\d+\.\d+$/)
  await t.rejects(client.show('nope'), { code: 'MODEL_NOT_FOUND' })
  standIn.models.length = 0
  t.strictSame(await client.list(), [])
})

t.test('a path before the API and credentials are kept', async (t) => {
  const seen: (string | undefined)[] = []
  const standIn = await startStandIn({
    routes: {
      '/ollama/api/version': (request, response) => {
        seen.push(request.headers.authorization)
        response.end('{"version":"1.2.3"}')
      },
    },
  })
  const client = createOllamaClient({
    url: `http://me:p%40ss@127.0.0.1:${standIn.port}/ollama/`,
    ...limits,
  })
  t.teardown(async () => {
    await client.close()
    await standIn.close()
  })
  t.equal(await client.version(), '1.2.3')
  t.strictSame(seen, [`Basic ${Buffer.from('me:p@ss').toString('base64')}`])
})

const strangers: [name: string, status: number, body: string][] = [
  ['a page', 200, '<!doctype html>'],
  ['a list', 200, '[]'],
  ['another object', 200, '{"models":7}'],
  ['nothing at that path', 404, 'not found'],
  ['8 MiB and more', 200, `"${'x'.repeat(9 * 1024 * 1024)}"`],
]
for (const [name, status, body] of strangers) {
  t.test(`a list that is ${name} is MODEL_BAD_RESPONSE, which names it`, async (t) => {
    const { client } = await start(t, {
      routes: { '/api/tags': (_, response) => response.writeHead(status).end(body) },
    })
    await t.rejects(client.list(), { code: 'MODEL_BAD_RESPONSE', message: /\/api\/tags/ })
  })
}

t.test('an Ollama without /api/ps tells of no window', async (t) => {
  const { client } = await start(t, {
    routes: { '/api/ps': (_, response) => response.writeHead(404).end('404 page not found') },
  })
  t.strictSame(await client.loaded(), new Map())
})

t.test('a list that hangs is MODEL_TIMEOUT, and abort ends it', async (t) => {
  const options = { routes: { '/api/tags': () => {} } }
  const { client } = await start(t, options, { firstTokenTimeoutMs: 200 })
  await t.rejects(client.list(), { code: 'MODEL_TIMEOUT' })
  const reason = new Error('stopped')
  await t.rejects(client.list(AbortSignal.abort(reason)), reason)
})
