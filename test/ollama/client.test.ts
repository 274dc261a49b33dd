import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { AppError } from '../../src/errors.js'
import { createOllamaClient, type OllamaClient } from '../../src/ollama/client.js'
import { eventually } from '../services/eventually.js'
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

const limits = {
  connectTimeoutMs: 2_000,
  firstTokenTimeoutMs: 10_000,
  loadTimeoutMs: 10_000,
  idleTimeoutMs: 10_000,
}

async function start(
  t: Test,
  options?: StandInOptions,
  overrides: Partial<Parameters<typeof createOllamaClient>[0]> = {},
) {
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
  ['notFound', 'MODEL_NOT_FOUND', /does not list that model/, ''],
  ['serverError', 'MODEL_FAILED', /process at Ollama ended/, ''],
  ['cutBeforeHeaders', 'MODEL_UNREACHABLE', /./, ''],
  ['cut', 'MODEL_CUT', /./, 'first'],
  ['cutInLine', 'MODEL_CUT', /./, 'first'],
  ['cutCleanly', 'MODEL_CUT', /./, 'first'],
  ['badJson', 'MODEL_BAD_RESPONSE', /not JSON/, 'first'],
  ['badShape', 'MODEL_BAD_RESPONSE', /without a message/, 'first'],
  ['badUtf8', 'MODEL_BAD_RESPONSE', /UTF-8/, 'first'],
  ['loneSurrogate', 'MODEL_BAD_RESPONSE', /surrogate/, 'first'],
  ['html', 'MODEL_BAD_RESPONSE', /content that is not JSON/, ''],
  ['htmlAsJson', 'MODEL_BAD_RESPONSE', /not JSON/, ''],
  ['redirect', 'MODEL_BAD_RESPONSE', /HTTP 302/, ''],
  ['errorLine', 'MODEL_FAILED', /too little memory/, 'first'],
  ['errorLineAndEnd', 'MODEL_FAILED', /too little memory/, 'first'],
  ['longLine', 'MODEL_BAD_RESPONSE', /1048576 bytes/, 'first'],
  ['gzip', 'MODEL_BAD_RESPONSE', /another encoding/, ''],
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
    const overrides = { firstTokenTimeoutMs: 1500, idleTimeoutMs: 500 }
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
      yield { wait: delay(200) }
    }
  }
  const overrides = { firstTokenTimeoutMs: 10_000, idleTimeoutMs: 1500 }
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

t.test('what Ollama says of an error is for the log: a client gets words of our own', async (t) => {
  const { standIn, client } = await start(t)
  const known: [reason: string, code: string, message: RegExp][] = [
    ['"x" does not support thinking', 'MODEL_CANNOT', /cannot think/],
    ['x does not support tools', 'MODEL_CANNOT', /does not support what/],
    [
      'model requires more system memory (5.6 GiB) than is available (3.2 GiB)',
      'MODEL_FAILED',
      /too little memory/,
    ],
    ['cudaMalloc failed: out of memory', 'MODEL_FAILED', /too little memory/],
    ['llama runner process no longer running: 137', 'MODEL_FAILED', /process at Ollama ended/],
    ['timed out waiting for llama runner to start', 'MODEL_FAILED', /too long to load/],
    ['server busy, please try again. maximum pending requests exceeded', 'MODEL_FAILED', /waiting/],
    ['input length exceeds maximum context length', 'MODEL_FAILED', /does not fit/],
    [
      'open /root/.ollama/id: key=sk-canary at 10.0.0.7',
      'MODEL_FAILED',
      /^Ollama reported an error/,
    ],
    [`bad\u0000\nnews ${'😀'.repeat(400)}`, 'MODEL_FAILED', /^Ollama reported an error/],
  ]
  for (const [reason, code, message] of known) {
    const answers: Script[] = [
      () => [{ line: { error: reason } }],
      () => [{ content: 'first' }, { line: { error: reason } }],
      () => [{ status: 500 }, { raw: JSON.stringify({ error: reason }) }, { end: true }],
    ]
    for (const script of answers) {
      standIn.setScript(script)
      const error = await chat(t, client, '').outcome.catch((error: unknown) => error)
      if (!(error instanceof AppError)) return t.fail('an AppError was expected')
      t.match(error, { code, message })
      t.notMatch(error.message, /canary|\/root|10\.0|GiB|news/)
      t.ok(error.cause instanceof Error && error.cause.message.endsWith(reason), 'the log has it')
    }
  }
  standIn.setScript(() => [{ status: 401 }, { raw: 'no key' }, { end: true }])
  await t.rejects(chat(t, client, '').outcome, { message: /OLLAMA_API_KEY/ })
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

t.test('a stop opens no connection that has nothing to send, and few are kept', async (t) => {
  const keptConnections = 4
  const script = async function* () {
    yield { content: 'first' }
    yield { wait: never }
  }
  const { standIn, client } = await start(t, { script }, { keptConnections })
  for (let round = 0; round < 10; round += 1) {
    const stop = new AbortController()
    const outcomes = Array.from({ length: 8 }, () => chat(t, client, '', stop.signal).outcome)
    const calls = outcomes.map((_, n) => standIn.chatCall(round * 8 + n + 1))
    await Promise.all(calls)
    stop.abort(new Error('stopped'))
    await Promise.allSettled(outcomes)
    await Promise.all(calls.map(async (call) => (await call).whenClosed))
  }
  await client.version()
  await delay(100)
  const used = new Set(standIn.calls.map(({ connection }) => connection))
  t.equal(standIn.connections.made, used.size, 'each had a request')
  standIn.setScript()
  await Promise.all(Array.from({ length: 20 }, () => chat(t, client, 'len=5').outcome))
  await eventually('the rest is closed', () => standIn.connections.open <= keptConnections)
  t.ok(standIn.connections.open > 0)
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
  stop.abort(reason)
  await t.rejects(outcome, reason)
  await eventually('its connection is closed', () => call.closed)
  t.notOk(call.answered, 'in mid-reply')
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

t.test('a list that hangs is MODEL_TIMEOUT', async (t) => {
  const options = { routes: { '/api/tags': () => {} } }
  const { client } = await start(t, options, { firstTokenTimeoutMs: 200 })
  await t.rejects(client.list(), { code: 'MODEL_TIMEOUT' })
})

/** Serves one call after the other, each with the steps of its prompt. */
function oneByOne(steps: Record<string, () => AsyncGenerator<Step>>): Script {
  let before: Promise<void> = Promise.resolve()
  return async function* (body) {
    const [mine, turn] = [deferred(), before]
    before = mine.promise
    yield { wait: turn }
    try {
      yield* steps[body.messages.at(-1)?.content ?? '']?.() ?? []
    } finally {
      mine.resolve()
    }
  }
}

async function* talk(): AsyncGenerator<Step> {
  for (let i = 0; i < 10; i += 1) {
    yield { content: 'x' }
    yield { wait: delay(200) }
  }
}
/** Less than a talk takes; far more than passes between its words, on a busy machine too. */
const lessThanTalkMs = 1500

t.test('silence counts only while Ollama serves no earlier call of that model', async (t) => {
  const script = oneByOne({ talk })
  const { standIn, client } = await start(t, { script }, { firstTokenTimeoutMs: lessThanTalkMs })
  const first = chat(t, client, 'talk')
  await standIn.chatCall(1)
  const second = chat(t, client, 'talk')
  await standIn.chatCall(2)
  const third = chat(t, client, 'talk')
  await Promise.all([first.outcome, second.outcome, third.outcome])
  t.equal(third.heard.content.length, 10)
})

t.test('a call that Ollama never serves ends, whatever later calls are told', async (t) => {
  const script: Script = async function* (body) {
    if (body.messages.at(-1)?.content === 'lost') yield { wait: never }
    for (;;) yield* talk()
  }
  const { standIn, client } = await start(t, { script }, { firstTokenTimeoutMs: 300 })
  const lost = chat(t, client, 'lost')
  await standIn.chatCall(1)
  const stop = new AbortController()
  const later = chat(t, client, 'talk', stop.signal)
  await t.rejects(lost.outcome, { code: 'MODEL_TIMEOUT', message: /OLLAMA_FIRST_TOKEN_TIMEOUT_MS/ })
  stop.abort(new Error('stopped'))
  await t.rejects(later.outcome, { message: 'stopped' })
})

t.test(
  'a model that has to be loaded has its own time, and so have the calls behind it',
  async (t) => {
    const load = async function* (): AsyncGenerator<Step> {
      yield { wait: delay(2000) }
      yield* talk()
    }
    const timeouts = { firstTokenTimeoutMs: lessThanTalkMs, loadTimeoutMs: 60_000 }
    const { standIn, client } = await start(t, { script: oneByOne({ load, talk }) }, timeouts)
    const ask = (prompt: string, loadsModel: boolean) =>
      client.chat(
        { model: 'stand-in', messages: [{ role: 'user', content: prompt }] },
        () => {},
        new AbortController().signal,
        loadsModel,
      )
    const first = ask('load', true)
    await standIn.chatCall(1)
    await Promise.all([first, ask('talk', false)])
    t.pass('both were answered')
  },
)

t.test('a timeout names its setting', async (t) => {
  const beforeTokens = await start(
    t,
    { script: faults.hangBeforeTokens },
    { firstTokenTimeoutMs: 100, loadTimeoutMs: 150 },
  )
  const betweenTokens = await start(t, { script: faults.hangBetweenTokens }, { idleTimeoutMs: 100 })
  const ask = (client: typeof beforeTokens.client, loadsModel: boolean) =>
    client.chat(
      { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
      () => {},
      new AbortController().signal,
      loadsModel,
    )
  const early = beforeTokens.client
  await t.rejects(ask(early, false), { message: /OLLAMA_FIRST_TOKEN_TIMEOUT_MS/ })
  await t.rejects(ask(early, true), { message: /OLLAMA_LOAD_TIMEOUT_MS/ })
  await t.rejects(ask(betweenTokens.client, false), { message: /OLLAMA_IDLE_TIMEOUT_MS/ })
})

t.test(
  'thinking in tags of the content is told as thinking, wherever the pieces end',
  async (t) => {
    const text = ' \n<think>\nHm, é日😀 < </thin </think>\n\nSo <think>it</think> is.'
    let pieces: string[] = []
    const { client } = await start(t, { script: () => pieces.map((content) => ({ content })) })
    const wanted = { content: 'So <think>it</think> is.', thinking: 'Hm, é日😀 < </thin ' }
    const cuts = [...Array(text.length).keys()].filter((at) => text.slice(0, at).isWellFormed())
    for (const at of cuts) {
      pieces = [text.slice(0, at), text.slice(at)]
      const { outcome, heard } = chat(t, client, '')
      await outcome
      t.match(heard, wanted, `cut at ${at}`)
    }
    pieces = [...text]
    const each = chat(t, client, '')
    await each.outcome
    t.match(each.heard, wanted, 'a character at a time')
  },
)

t.test('content that only looks like the tag, or never closes it, is kept whole', async (t) => {
  let pieces: string[] = []
  const { client } = await start(t, { script: () => pieces.map((content) => ({ content })) })
  const cases: [pieces: string[], content: string, thinking: string][] = [
    [['<thi'], '<thi', ''],
    [['<', 'p>text'], '<p>text', ''],
    [[' ', '\n'], ' \n', ''],
    [['In HTML, <think>', 'x</think>'], 'In HTML, <think>x</think>', ''],
    [['<think>', 'on and on </th'], '', 'on and on </th'],
    [['<think>\n\n</think>\n\n', 'At once.'], 'At once.', ''],
    [[' '.repeat(300), 'x'], `${' '.repeat(300)}x`, ''],
  ]
  for (const [said, content, thinking] of cases) {
    pieces = said
    const { outcome, heard } = chat(t, client, '')
    await outcome
    t.match(heard, { content, thinking }, JSON.stringify(said).slice(0, 40))
  }
})

t.test('what could have begun a tag is told when a reply is stopped or fails', async (t) => {
  const { client, standIn } = await start(t, {}, { idleTimeoutMs: 300 })
  const cases: [said: string, content: string, thinking: string][] = [
    ['<think>Hm </thin', '', 'Hm </thin'],
    [' <thi', ' <thi', ''],
  ]
  const failures: Record<string, Step> = {
    MODEL_CUT: { end: true },
    MODEL_FAILED: { line: { error: 'out of memory' } },
    MODEL_TIMEOUT: { wait: never },
  }
  for (const [said, content, thinking] of cases) {
    for (const [code, failure] of Object.entries(failures)) {
      standIn.setScript(() => [{ content: said }, failure])
      const { outcome, heard } = chat(t, client, '')
      await t.rejects(outcome, { code })
      t.match(heard, { content, thinking }, code)
    }
    const stop = new AbortController()
    const arrived = deferred()
    const line = { message: { thinking: 'T', content: said }, done: false }
    standIn.setScript(() => [{ line }, { wait: never }])
    const heard = { content: '', thinking: '' }
    const outcome = client.chat(
      { model: 'stand-in', messages: [{ role: 'user', content: '' }] },
      (content, thinking) => {
        heard.content += content
        heard.thinking += thinking
        arrived.resolve()
      },
      stop.signal,
    )
    await arrived.promise
    stop.abort(new Error('stopped'))
    await t.rejects(outcome, { message: 'stopped' })
    t.same(heard, { content, thinking: `T${thinking}` }, 'stopped')
  }
})
