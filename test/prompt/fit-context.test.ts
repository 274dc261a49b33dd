import t, { type Test } from 'tap'
import { createMemoryCache } from '../../src/cache/memory.js'
import { assertFits, droppedByOllama, fitContext, type Window } from '../../src/prompt/context.js'
import { TokenEstimate } from '../../src/prompt/token-estimate.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import type { ChatRow } from '../../src/stores/store.js'
import { aChat, aTurn } from '../stores/rows.js'

/** Of a model of which nothing is learnt: three bytes a token, and 8 around each message. */
const estimate = new TokenEstimate(createMemoryCache())
/** A text of so many tokens. */
const textOf = (tokens: number, letter = 'x') => letter.repeat((tokens - 8) * 3)

const aWindow = (contextLength: number, maxReplyTokens?: number): Window => ({
  model: 'small',
  key: 'small',
  contextLength,
  maxReplyTokens,
})

/** A chat of these texts, a message and its reply in turn, over a store that counts its reads. */
async function startChat(t: Test, texts: readonly string[], fields: Partial<ChatRow> = {}) {
  const store = openSqliteStore(t.testdir())
  t.teardown(() => store.close())
  const chat = aChat(fields)
  await store.createChat(chat)
  for (let n = 0; n < texts.length; n += 2) {
    const { reply } = await store.appendTurn(aTurn(chat, { content: texts[n] ?? '' }))
    const content = texts[n + 1]
    if (content === undefined) continue
    const end = { status: 'complete', content, owner: null, leaseUntil: null } as const
    await store.updateReply(reply.id, { status: ['queued'] }, end)
  }
  const reads: { limit: number; before: number }[] = []
  const counting = {
    async listTexts(chatId: string, limit: number, before: number) {
      reads.push({ limit, before })
      return store.listTexts(chatId, limit, before)
    },
  }
  return {
    reads,
    fit: (window: Window, replySeq = texts.length + (texts.length % 2)) =>
      fitContext(counting, chat, replySeq, window, estimate),
  }
}

const contentsOf = ({ messages }: Awaited<ReturnType<typeof fitContext>>) =>
  messages.map(({ content }) => content)

t.test(
  'a window that is used up leaves a quarter for the prompt, one without a bound 1024',
  async (t) => {
    const fits = (window: Window, tokens: number) => {
      try {
        assertFits(window, undefined, textOf(tokens), estimate)
        return true
      } catch {
        return false
      }
    }
    for (const [window, room] of [
      [aWindow(400, 100), 300],
      [aWindow(400, 399), 100],
      [aWindow(400, 300), 100],
      [aWindow(400, 301), 100],
      [aWindow(403, 1000), 100],
      [aWindow(400, 0), 400],
      [aWindow(400), 300],
      [aWindow(4096), 3072],
      [aWindow(8192), 7168],
    ] as const) {
      t.ok(fits(window, room), `${room} of ${window.contextLength}`)
      t.notOk(fits(window, room + 1), `${room + 1} of ${window.contextLength}`)
    }
  },
)

t.test('the system prompt takes room of its message', async (t) => {
  const window = aWindow(400, 100)
  assertFits(window, textOf(100), textOf(200), estimate)
  t.throws(() => assertFits(window, textOf(100), textOf(201), estimate), {
    code: 'MESSAGE_TOO_LONG',
    message:
      'The message and the system prompt take about 301 tokens; small has room for 300 of its ' +
      '400. Shorten it, or raise options.num_ctx.',
  })
  assertFits(window, '', textOf(300), estimate)
  assertFits(window, undefined, textOf(300), estimate)
})

t.test('the first message of a chat is sent alone', async (t) => {
  const { fit, reads } = await startChat(t, ['Hello'])
  t.same(await fit(aWindow(400)), { messages: [{ role: 'user', content: 'Hello' }], dropped: 0 })
  t.equal(reads.length, 1)
})

t.test('the system prompt comes first, then whole exchanges, then the message', async (t) => {
  const { fit } = await startChat(t, ['one', 'first', 'two', 'second', 'three'], {
    system: 'Be brief.',
  })
  t.same(await fit(aWindow(4096)), {
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'one' },
      { role: 'assistant', content: 'first' },
      { role: 'user', content: 'two' },
      { role: 'assistant', content: 'second' },
      { role: 'user', content: 'three' },
    ],
    dropped: 0,
  })
})

t.test(
  'an exchange goes in whole when it just fits, else it and all before it are left out',
  async (t) => {
    const texts = [
      textOf(20, 'a'),
      textOf(20, 'b'),
      textOf(40, 'c'),
      textOf(60, 'd'),
      textOf(50, 'e'),
    ]
    const { fit } = await startChat(t, texts)
    const kept = async (room: number) => contentsOf(await fit(aWindow(room, 0)))
    t.same(await kept(190), texts)
    t.same(await kept(189), texts.slice(2))
    t.same(await kept(150), texts.slice(2))
    t.same(await kept(149), texts.slice(4), 'the first would have fitted')
    t.same(await kept(50), texts.slice(4))
    t.equal((await fit(aWindow(189, 0))).dropped, 2)
    t.equal((await fit(aWindow(149, 0))).dropped, 4)
  },
)

t.test('the system prompt takes room of older exchanges', async (t) => {
  const texts = [textOf(20, 'a'), textOf(20, 'b'), textOf(50, 'c')]
  const system = textOf(30, 's')
  const { fit } = await startChat(t, texts, { system })
  t.same(contentsOf(await fit(aWindow(120, 0))), [system, ...texts])
  t.same(contentsOf(await fit(aWindow(119, 0))), [system, textOf(50, 'c')])
})

t.test('a message that does not fit alone is refused', async (t) => {
  const { fit } = await startChat(t, [textOf(101)])
  await t.rejects(fit(aWindow(100, 0)), { code: 'MESSAGE_TOO_LONG' })
})

t.test('a message that is gone with its chat is an error', async (t) => {
  const { fit } = await startChat(t, [])
  await t.rejects(fit(aWindow(400), 2), { code: 'CHAT_NOT_FOUND' })
})

t.test('a reply that has no text takes no room and is not sent', async (t) => {
  const texts = [textOf(20, 'a'), '', textOf(50, 'c')]
  const { fit } = await startChat(t, texts)
  t.same(contentsOf(await fit(aWindow(70, 0))), [texts[0], texts[2]])
  t.equal((await fit(aWindow(70, 0))).dropped, 0)
})

t.test('a long chat is read page by page, only as far as it fits', async (t) => {
  const texts = Array.from({ length: 101 }, (_, n) => textOf(10, 'abcdefghij'[n % 10]))
  const { fit, reads } = await startChat(t, texts)
  const whole = await fit(aWindow(2000, 0))
  t.same(contentsOf(whole), texts)
  t.equal(whole.dropped, 0)
  t.same(
    reads.map(({ before }) => before),
    [102, 81, 61, 41, 21],
  )
  t.same(new Set(reads.map(({ limit }) => limit)), new Set([21, 20]))
  reads.length = 0
  const newest = await fit(aWindow(150, 0))
  t.same(contentsOf(newest), texts.slice(-15))
  t.equal(newest.dropped, 86)
  t.equal(reads.length, 1)
})

t.test('a page that begins with a reply leaves it to the page with its message', async (t) => {
  // One that another server is yet to answer has its place, so the pages are one off.
  const texts = Array.from({ length: 61 }, (_, n) => textOf(10, 'abcdefghij'[n % 10]))
  const store = {
    async listTexts(_: string, limit: number, before: number) {
      const rows = texts.map((content, n) => {
        const role = n % 2 === 0 ? ('user' as const) : ('assistant' as const)
        return { seq: n + 1, role, content }
      })
      const page = rows.filter(({ seq }) => seq < before)
      // Fewer than were asked for, as where the store's page ends in the middle of an exchange.
      return page.slice(1 - limit)
    },
  }
  const prompt = await fitContext(store, aChat(), 62, aWindow(2000, 0), estimate)
  t.same(contentsOf(prompt), texts)
  const less = await fitContext(store, aChat(), 62, aWindow(400, 0), estimate)
  t.same(contentsOf(less), texts.slice(-39))
  t.equal(less.dropped, 22)
})

t.test('a page that has nothing but the end of an exchange is the last', async (t) => {
  const end = { seq: 4, role: 'assistant' as const, content: 'the end' }
  const pages = [[end, { seq: 5, role: 'user' as const, content: 'Hello' }]]
  const store = { listTexts: async () => pages.shift() ?? [end] }
  const prompt = await fitContext(store, aChat(), 6, aWindow(400, 0), estimate)
  t.same(prompt, { messages: [{ role: 'user', content: 'Hello' }], dropped: 4 })
})

t.test('a chat that begins with a reply keeps it', async (t) => {
  const rows = [
    { seq: 1, role: 'assistant' as const, content: 'Welcome' },
    { seq: 2, role: 'user' as const, content: 'Hello' },
  ]
  const store = { listTexts: async () => [...rows] }
  const prompt = await fitContext(store, aChat(), 3, aWindow(400, 0), estimate)
  t.same(contentsOf(prompt), ['Welcome', 'Hello'])
  t.equal(prompt.dropped, 0)
})

t.test('two messages of a user in a row are two exchanges', async (t) => {
  const rows = [
    { seq: 1, role: 'user' as const, content: textOf(20, 'a') },
    { seq: 2, role: 'user' as const, content: textOf(20, 'b') },
    { seq: 3, role: 'assistant' as const, content: textOf(20, 'c') },
    { seq: 4, role: 'user' as const, content: textOf(20, 'd') },
  ]
  const store = { listTexts: async () => [...rows] }
  const { messages, dropped } = await fitContext(store, aChat(), 5, aWindow(80, 0), estimate)
  t.same(
    messages,
    rows.map(({ role, content }) => ({ role, content })),
  )
  t.equal(dropped, 0)
  const less = await fitContext(
    { listTexts: async () => [...rows] },
    aChat(),
    5,
    aWindow(79, 0),
    estimate,
  )
  t.equal(less.messages.length, 3)
  t.equal(less.dropped, 1)
})

const aPrompt = (tokens: readonly number[], system = false) => ({
  messages: tokens.map((count, n) => ({
    role: system && n === 0 ? ('system' as const) : ('user' as const),
    content: textOf(count),
  })),
  dropped: 0,
})

t.test('of a prompt that fits the loaded window nothing was dropped', async (t) => {
  const prompt = aPrompt([50, 50, 50])
  t.equal(droppedByOllama(prompt, 149, aWindow(150), estimate), 0)
  t.equal(droppedByOllama(prompt, undefined, aWindow(150), estimate), 0)
})

t.test('of a longer one the oldest were dropped, until the rest fits', async (t) => {
  const prompt = aPrompt([20, 30, 50, 50])
  t.equal(droppedByOllama(prompt, 148, aWindow(149), estimate), 1)
  t.equal(droppedByOllama(prompt, 129, aWindow(130), estimate), 1)
  t.equal(droppedByOllama(prompt, 128, aWindow(129), estimate), 2)
  t.equal(droppedByOllama(prompt, 98, aWindow(99), estimate), 3)
  t.equal(droppedByOllama(prompt, 9, aWindow(10), estimate), 3, 'the last one stays')
})

t.test('the system prompt is not among what was dropped', async (t) => {
  const prompt = aPrompt([50, 20, 30, 50], true)
  t.equal(droppedByOllama(prompt, undefined, aWindow(130), estimate), 1)
  t.equal(droppedByOllama(prompt, undefined, aWindow(129), estimate), 2)
  t.equal(droppedByOllama(prompt, undefined, aWindow(10), estimate), 2)
})

t.test('a prompt that fills the window lost all that may be dropped', async (t) => {
  t.equal(droppedByOllama(aPrompt([20, 20, 20]), 400, aWindow(400), estimate), 2)
  t.equal(droppedByOllama(aPrompt([20, 20, 20], true), 401, aWindow(400), estimate), 1)
  t.equal(droppedByOllama(aPrompt([20, 20, 20]), 399, aWindow(400), estimate), 0)
})
