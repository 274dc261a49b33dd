import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createMemoryCache } from '../../src/cache/memory.js'
import type { StreamLog } from '../../src/cache/stream-log.js'
import { Takeover } from '../../src/engine/takeover.js'
import { AppError } from '../../src/errors.js'
import { ChatEvents } from '../../src/reply/chat-events.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import type { LiveReply } from '../../src/reply/live-reply.js'
import { ReplyState } from '../../src/reply/reply-state.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import type { ReplyChange } from '../../src/stores/store.js'
import { eventually } from '../services/eventually.js'
import { aChat, aTurn } from '../stores/rows.js'

const tokens = { kept: 3, discarded: 4 }
const begun = { status: 'streaming', content: 'One two', thinking: 'Hm', tokens } as const

const aModel = {
  ...{ name: 'eliza', digest: '', isLoaded: false, contextLength: undefined },
  ...{ numCtx: undefined, numPredict: undefined, trainedContextLength: undefined },
  ...{ template: '', capabilities: undefined },
}
type Find = () => Promise<{ continues: boolean }>

/** Takeovers of one process over a real store; `find` is what Ollama tells of a model. */
async function start(
  t: Test,
  find: Find = async () => ({ continues: true }),
  { pauses = { idleMs: 5, againMs: 1 }, hasStreamLog = true } = {},
) {
  const store = openSqliteStore(t.testdir())
  t.teardown(() => store.close())
  const held = new HeldReplies()
  const state = new ReplyState({
    ...{ store, cache: createMemoryCache(), held, owner: 'here', leaseMs: 600_000 },
    streamLog: undefined,
  })
  const taken: LiveReply[] = []
  /** In which pass each was taken. */
  const takenIn: number[] = []
  const told: unknown[] = []
  const forgotten: string[] = []
  const closedLogs: unknown[] = []
  const asked: (string | undefined)[] = []
  const logged: string[] = []
  const logFields: object[] = []
  let passes = 0
  const keep = (fields: object, message: string) => {
    logged.push(message)
    logFields.push(fields)
  }
  const log = { info: keep, warn: keep, error: keep }
  const chatEvents = new ChatEvents(log)
  chatEvents.listen({
    toChat: (chatId, event, payload) => void told.push([chatId, event, payload]),
    toUser() {},
  })
  const streamLog: StreamLog = {
    append: async () => true,
    read: async () => ({ content: '', thinking: '' }),
    close: async (...log) => void closedLogs.push(log),
    stop() {},
  }
  const takeover = new Takeover({
    store: {
      firstLeaseEnd: () => store.firstLeaseEnd(),
      findLapsedReplies: (...lapsed) => {
        passes++
        return store.findLapsedReplies(...lapsed)
      },
    },
    catalogue: {
      findNow: async (name) => {
        asked.push(name)
        return { ...aModel, ...(await find()) }
      },
    },
    runner: {
      hold: (reply) => {
        taken.push(reply)
        takenIn.push(passes)
      },
    },
    cluster: { forget: (messageId) => void forgotten.push(messageId) },
    streamLog: hasStreamLog ? streamLog : undefined,
    ...{ pauses, state, held, chatEvents, log },
  })
  t.teardown(() => takeover.close())
  return {
    ...{ store, takeover, held, taken, takenIn, told, forgotten, closedLogs, asked },
    ...{ logged, logFields },
    passes: () => passes,
    chat: async () => {
      const chat = aChat()
      await store.createChat(chat)
      return chat
    },
    /** A reply that `dead` held, whose lease is over. */
    async left(change: ReplyChange = {}, chat = aChat()) {
      await store.createChat(chat).catch(() => {})
      const turn = aTurn(chat, { owner: 'dead', leaseUntil: new Date(1) })
      const { reply } = await store.appendTurn(turn)
      const row = await store.updateReply(reply.id, { status: ['queued'] }, change)
      if (!row) throw new Error('the reply was not stored')
      return row
    },
    find: (row: { userId: string; chatId: string; id: string }) =>
      store.findMessage(row.userId, row.chatId, row.id),
    /** Resolves when two more passes have looked at what lapsed. */
    async pass() {
      const before = passes
      await eventually('it has looked twice', () => passes > before + 2)
    },
  }
}

t.test('a begun reply goes on from the kept text where its model can', async (t) => {
  const { left, takeover, taken, asked, closedLogs, find, logged, logFields } = await start(t)
  const row = await left(begun)
  takeover.look()
  await eventually('it is taken', () => taken.length === 1)
  const [reply] = taken
  t.same(logged, ['reply taken over'])
  t.same(logFields, [{ replyId: row.id, epoch: 2, offset: 7 }])
  t.match(reply?.row, { id: row.id, owner: 'here', epoch: 2, epochStart: 7, takeovers: 1 })
  t.same(reply?.kept, { content: 'One two', thinking: 'Hm', tokens })
  t.same(await find(row), reply?.row)
  t.same(asked, ['eliza'])
  t.same(closedLogs, [[row.id, 1]], 'nothing more is taken of its old owner')
})

t.test('a begun reply starts over where its model cannot go on', async (t) => {
  const { left, takeover, taken } = await start(t, async () => ({ continues: false }))
  await left(begun)
  takeover.look()
  await eventually('it is taken', () => taken.length === 1)
  t.match(taken[0]?.row, { epoch: 2, epochStart: 0, content: '' })
  t.same(taken[0]?.kept, { content: '', thinking: '', tokens: { kept: 0, discarded: 7 } })
})

t.test('a reply of which nothing is kept starts over, and no model is asked for', async (t) => {
  const { left, takeover, taken, asked } = await start(t)
  await left({ status: 'streaming' })
  takeover.look()
  await eventually('it is taken', () => taken.length === 1)
  t.match(taken[0]?.row, { epoch: 2, epochStart: 0 })
  t.same(asked, [])
})

t.test('a queued reply goes on waiting in its epoch, with its log', async (t) => {
  const { left, takeover, taken, closedLogs } = await start(t)
  await left()
  takeover.look()
  await eventually('it is taken', () => taken.length === 1)
  t.match(taken[0]?.row, { status: 'queued', owner: 'here', epoch: 1, takeovers: 0 })
  t.same(closedLogs, [])
})

t.test('a reply that was taken over three times ends, with its text, and is told', async (t) => {
  const { left, takeover, taken, told, forgotten, asked, find, logged, logFields } = await start(t)
  const row = await left({ ...begun, takeovers: 3 })
  takeover.look()
  await eventually('it is told', () => told.length === 1)
  const ended = await find(row)
  t.match(ended, {
    ...{ status: 'interrupted', content: 'One two', thinking: 'Hm' },
    error: { code: 'REPLY_INTERRUPTED' },
  })
  t.match(told, [[row.chatId, 'message', { id: row.id, status: 'interrupted' }]])
  t.same(forgotten, [row.id])
  t.same(taken, [])
  t.same(asked, [])
  t.same(logged, ['reply interrupted'])
  t.same(logFields, [{ replyId: row.id, code: 'REPLY_INTERRUPTED' }])
})

t.test('a queued reply is taken however often it was taken before', async (t) => {
  const { left, takeover, taken } = await start(t)
  await left({ takeovers: 9 })
  takeover.look()
  await eventually('it is taken', () => taken.length === 1)
})

t.test('a reply whose model is gone ends, with its text', async (t) => {
  const { left, takeover, told, taken, find } = await start(t, async () => {
    throw new AppError('MODEL_NOT_FOUND')
  })
  const row = await left(begun)
  takeover.look()
  await eventually('it is told', () => told.length === 1)
  t.match(await find(row), {
    ...{ status: 'interrupted', content: 'One two' },
    error: { code: 'MODEL_NOT_FOUND' },
  })
  t.same(taken, [])
})

t.test('while Ollama is away what needs it waits, with what follows in its chat', async (t) => {
  let isAway = true
  const { left, chat, takeover, taken, asked, logged, pass, passes } = await start(t, async () => {
    if (isAway) throw new AppError('MODELS_UNKNOWN')
    return { continues: true }
  })
  const one = await chat()
  const waiting = await left(begun, one)
  const later = await left({}, one)
  const second = await left(begun)
  const free = await left()
  takeover.look()
  await pass()
  t.same(
    taken.map(({ id }) => id),
    [free.id],
  )
  t.ok(asked.length <= passes(), 'one model is asked for in each pass')
  t.same(logged.filter((line) => line.includes('waits for Ollama')).length, 1, 'it is logged once')
  isAway = false
  await eventually('all are taken', () => taken.length === 4)
  const order = taken.map(({ id }) => id)
  t.same(new Set(order), new Set([free.id, waiting.id, later.id, second.id]))
  t.ok(order.indexOf(waiting.id) < order.indexOf(later.id))
  t.ok(logged.some((line) => line.includes('has heard from Ollama again')))
})

t.test('what this process holds, stores or may have stored is its own', async (t) => {
  const { left, takeover, held, taken, pass, find } = await start(t)
  const rows = [await left(), await left()]
  held.storing.add(rows[0]?.id ?? '')
  held.unconfirmed.add(rows[1]?.id ?? '')
  takeover.look()
  await pass()
  t.same(taken, [])
  for (const row of rows) t.same(await find(row), row)
})

t.test('a lease that is not over is left, until it is', async (t) => {
  const { left, takeover, taken, store, find, passes } = await start(t)
  const row = await left()
  await store.renewLeases('dead', [row.id], new Date(Date.now() + 600_000))
  takeover.look()
  const other = await left()
  await eventually('the other is taken', () => taken.length === 1)
  t.equal(taken[0]?.id, other.id)
  t.match(await find(row), { owner: 'dead' })
  t.ok(passes() > 0)
})

t.test('a reply that was handed over is taken at the first look', async (t) => {
  const { left, takeover, taken, passes } = await start(t)
  await left({ ...begun, owner: null, leaseUntil: new Date(0) })
  takeover.look()
  await eventually('it is taken', () => taken.length === 1)
  t.equal(passes(), 1)
  t.match(taken[0]?.row, { takeovers: 0 })
})

t.test('a store that fails is looked into again, and logged once', async (t) => {
  const { left, takeover, store, taken, logged } = await start(t)
  const { firstLeaseEnd } = store
  let failures = 0
  store.firstLeaseEnd = async () => {
    failures++
    throw new AppError('STORE_UNAVAILABLE')
  }
  await left()
  takeover.look()
  await eventually('it has failed often', () => failures > 3)
  store.firstLeaseEnd = firstLeaseEnd
  await eventually('it is taken', () => taken.length === 1)
  await eventually('its end is logged', () => logged.length === 3)
  t.match(
    logged.filter((line) => line !== 'reply taken over'),
    [/could not look for replies/, /are looked for again/],
  )
})

t.test('once closed nothing is taken', async (t) => {
  const { left, takeover, taken, passes } = await start(t)
  await takeover.close()
  await left()
  takeover.look()
  await nextTurn()
  t.equal(passes(), 0)
  t.same(taken, [])
})

t.test('what is looked up while it closes is not taken', async (t) => {
  let answer = (_: { continues: boolean }) => {}
  const { left, takeover, taken, asked, find } = await start(t, () => {
    return new Promise((resolve) => {
      answer = resolve
    })
  })
  const row = await left(begun)
  takeover.look()
  await eventually('its model is asked for', () => asked.length === 1)
  const order: string[] = []
  const closed = takeover.close().then(() => order.push('closed'))
  await nextTurn()
  order.push('answered')
  answer({ continues: true })
  await closed
  t.same(order, ['answered', 'closed'])
  t.same(taken, [])
  t.match(await find(row), { owner: 'dead' })
})

t.test('once it is closed it does not go on with what it had found', async (t) => {
  let answer = (_: { continues: boolean }) => {}
  const { left, takeover, taken, told, asked, find } = await start(t, () => {
    return new Promise((resolve) => {
      answer = resolve
    })
  })
  await left({ ...begun, leaseUntil: new Date(0) })
  const next = await left({ leaseUntil: new Date(0) })
  const exhausted = await left({ ...begun, takeovers: 3, leaseUntil: new Date(0) })
  takeover.look()
  await eventually('a model is asked for', () => asked.length === 1)
  t.same(taken, [])
  const closed = takeover.close()
  answer({ continues: true })
  await closed
  t.same(taken, [])
  t.same(told, [])
  t.same(await find(next), next)
  t.same(await find(exhausted), exhausted)
})

t.test('while Ollama does not answer, what needs it waits, and closing does not', async (t) => {
  let answer = (_: { continues: boolean }) => {}
  const { left, takeover, taken, logFields } = await start(t, () => {
    return new Promise((resolve) => {
      answer = resolve
    })
  })
  const waiting = await left({ ...begun, leaseUntil: new Date(0) })
  const blank = await left({ status: 'streaming', leaseUntil: new Date(0) })
  takeover.look()
  await eventually('the other is taken', () => taken.length === 1)
  t.equal(taken[0]?.id, blank.id)
  t.match(logFields[0], { replyId: waiting.id, err: { code: 'MODEL_TIMEOUT' } })
  let isClosed = false
  void takeover.close().then(() => {
    isClosed = true
  })
  await eventually('it is closed', () => isClosed)
  answer({ continues: true })
})

t.test('without a log of streams a reply goes on from what is stored', async (t) => {
  const { left, takeover, taken } = await start(t, undefined, { hasStreamLog: false })
  await left(begun)
  takeover.look()
  await eventually('it is taken', () => taken.length === 1)
  t.same(taken[0]?.kept, { content: 'One two', thinking: 'Hm', tokens })
})

t.test('a reply whose owner comes back before it is claimed stays its owner’s', async (t) => {
  let comeBack = async () => {}
  const { left, takeover, store, taken, logged, find } = await start(t, async () => {
    await comeBack()
    return { continues: true }
  })
  const row = await left({ ...begun, leaseUntil: new Date(0) })
  const until = new Date(Date.now() + 600_000)
  comeBack = async () => void (await store.renewLeases('dead', [row.id], until))
  const other = await left()
  takeover.look()
  await eventually('the other is taken', () => taken.length > 0)
  t.same(
    taken.map(({ id }) => id),
    [other.id],
  )
  t.same(logged, ['reply taken over'])
  t.match(await find(row), { owner: 'dead', epoch: 1 })
})

t.test('a reply whose owner comes back before it is ended goes on', async (t) => {
  const { left, takeover, store, told, taken, logged, forgotten, find } = await start(t)
  const row = await left({ ...begun, takeovers: 3, leaseUntil: new Date(0) })
  const { findLapsedReplies } = store
  store.findLapsedReplies = async (...lapsed) => {
    const rows = await findLapsedReplies(...lapsed)
    await store.renewLeases('dead', [row.id], new Date(Date.now() + 600_000))
    return rows
  }
  const other = await left()
  takeover.look()
  await eventually('the other is taken', () => taken.length > 0)
  t.equal(taken[0]?.id, other.id)
  t.match(await find(row), { owner: 'dead', status: 'streaming' })
  t.same([told, forgotten, logged], [[], [], ['reply taken over']])
})

t.test('a later reply of a chat waits for an earlier one, though it was handed over', async (t) => {
  const { left, chat, takeover, taken } = await start(t)
  const one = await chat()
  const earlier = await left({}, one)
  const later = await left({ owner: null, leaseUntil: new Date(0) }, one)
  takeover.look()
  await eventually('both are taken', () => taken.length === 2)
  t.same(
    taken.map(({ id }) => id),
    [earlier.id, later.id],
  )
})

/** Takeovers that look when they are told to, and a clock that is moved by hand. */
async function startByHand(t: Test) {
  const againMs = 600_000
  const parts = await start(t, undefined, { pauses: { idleMs: againMs, againMs } })
  const { now } = Date
  let time = now()
  Date.now = () => time
  t.teardown(() => {
    Date.now = now
  })
  return {
    ...{ ...parts, againMs },
    async lookIn(ms: number) {
      time += ms
      const before = parts.passes()
      parts.takeover.look()
      await eventually('it has looked', () => parts.passes() > before)
      await nextTurn()
    },
  }
}

t.test('a reply is taken when its lease was seen to be over for a while', async (t) => {
  const { left, lookIn, againMs, taken, takenIn } = await startByHand(t)
  await left()
  for (const ms of [0, againMs - 1, 1]) await lookIn(ms)
  await eventually('it is taken', () => taken.length === 1)
  t.same(takenIn, [3])
})

t.test('a lease that was renewed and lapses again is seen anew', async (t) => {
  const { left, lookIn, againMs, store, taken, takenIn } = await startByHand(t)
  const row = await left()
  await lookIn(0)
  await store.renewLeases('dead', [row.id], new Date(2))
  for (const ms of [againMs, againMs - 1, 1]) await lookIn(ms)
  await eventually('it is taken', () => taken.length === 1)
  t.same(takenIn, [4])
})

const rarely = { pauses: { idleMs: 600_000, againMs: 600_000 } }

t.test('while no lease is over, no replies are read', async (t) => {
  const { takeover, store, passes } = await start(t)
  const { firstLeaseEnd } = store
  let looks = 0
  store.firstLeaseEnd = () => {
    looks++
    return firstLeaseEnd()
  }
  takeover.look()
  await eventually('it has looked often', () => looks > 2)
  t.equal(passes(), 0)
})

t.test('it looks when the first lease ends', async (t) => {
  const { left, takeover, store, passes } = await start(t, undefined, rarely)
  const row = await left()
  await store.renewLeases('dead', [row.id], new Date(Date.now() + 200))
  takeover.look()
  await eventually('it has looked', () => passes() === 1)
})

t.test('a look that is asked for during another follows at once', async (t) => {
  const { takeover, store } = await start(t, undefined, rarely)
  let looks = 0
  let answer = (_: undefined) => {}
  store.firstLeaseEnd = () => {
    looks++
    return new Promise((resolve) => {
      answer = resolve
    })
  }
  takeover.look()
  takeover.look()
  t.equal(looks, 1, 'one at a time')
  answer(undefined)
  await eventually('it looks again', () => looks === 2)
  answer(undefined)
  // Its timers would be due before this one.
  await nextTurn()
  await delay(1)
  t.equal(looks, 2, 'and then rests')
})

t.test('after a failure it rests before it looks again', async (t) => {
  const { takeover, store, logged } = await start(t, undefined, rarely)
  let looks = 0
  store.firstLeaseEnd = async () => {
    looks++
    throw new AppError('STORE_UNAVAILABLE')
  }
  takeover.look()
  await eventually('it has failed', () => logged.length === 1)
  // Its timer would be due before this one.
  await nextTurn()
  await delay(1)
  t.equal(looks, 1)
})
