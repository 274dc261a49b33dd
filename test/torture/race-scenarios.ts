import type { Arena } from './arena.js'
import type { ArenaChat } from './arena-chat.js'
import { storeAway } from './caller.js'
import type { Entry } from './ledger.js'
import { between, pick } from './trial.js'

/** One race, in a chat of its own. */
type Race = (arena: Arena) => Promise<void>

/** A reply that takes so many milliseconds does not end by itself while its race is run. */
const longMs = 20_000

/** So many calls at once, each a little after the others. */
async function atOnce<T>(
  arena: Arena,
  count: number,
  withinMs: number,
  call: (index: number) => Promise<T>,
): Promise<T[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      await arena.soon(withinMs)
      return call(index)
    }),
  )
}

/** The same key from many devices: one message, one reply, one call of the model. */
const equalKeys = async (arena: Arena) => {
  const { trial } = arena
  const chat = await arena.newChat()
  const key = `key-${trial.serial()}`
  const first = arena.prompt(50)
  const other = arena.random.chance(0.4) ? arena.prompt(50) : first
  const answers = await atOnce(arena, between(arena.random, 2, 12), 10, async (index) => {
    const content = index % 3 === 2 ? other : first
    const sent = await arena.caller.send(arena.anyWay(), { chatId: chat.id, content, key })
    return { content, sent }
  })
  const accepted = answers.filter(({ sent }) => !sent.refused)
  const winner = accepted[0]?.content ?? ''
  const entry = chat.ledger.plan(winner, key)
  for (const { content, sent } of answers) {
    if (!sent.refused) chat.ledger.acknowledge(entry, sent)
    else {
      const rightly = sent.refused.code === 'IDEMPOTENCY_KEY_REUSED' && content !== winner
      arena.trial.check(rightly, 'an equal message was refused', { winner, content, sent })
    }
  }
  await chat.settle()
  const calls = [...new Set([first, other])].flatMap((content) => arena.callsOf(content))
  arena.trial.check(calls.length === 1, 'the model was not called once', { calls })
}

/** A stop at the moment at which the reply ends by itself: either, and everybody is told the same. */
const stopAgainstFinish = async (arena: Arena) => {
  const ms = arena.random.upTo(150)
  const chat = await arena.newChat()
  const entry = await chat.begin(arena.prompt(ms))
  await arena.soon(ms * 2 + 10)
  await chat.stop(entry)
  await arena.modelIsFree([entry.content])
  await chat.settle()
}

/** Several stops at once are one. */
const twoStops = async (arena: Arena) => {
  const chat = await arena.newChat()
  const entry = await chat.begin(arena.prompt(pick(arena.random, [200, longMs])))
  await arena.soon(150)
  await atOnce(arena, between(arena.random, 2, 6), 5, () => chat.stop(entry))
  await arena.modelIsFree([entry.content])
  await chat.settle()
}

/** Stops of replies that wait, as their turns come. */
const stopAgainstBegin = async (arena: Arena) => {
  const chat = await arena.newChat()
  const entries = []
  for (let count = between(arena.random, 2, 5); count > 0; count -= 1) {
    entries.push(await chat.begin(arena.prompt(20)))
  }
  await Promise.all(
    entries.map(async (entry, index) => {
      await arena.soon(index * 60)
      if (arena.random.chance(0.6)) await chat.stop(entry)
    }),
  )
  await chat.settle()
}

/** Messages sent at once in one chat: all kept, each answered with those before it known. */
const sendsAtOnce = async (arena: Arena) => {
  const { trial, random } = arena
  const chat = await arena.newChat({ inOrder: false })
  await atOnce(arena, between(random, 2, 8), 20, async () => {
    const key = random.chance(0.5) ? `key-${trial.serial()}` : undefined
    const sent = await chat.send(chat.ledger.plan(arena.prompt(random.upTo(60)), key))
    const maybeStored = key === undefined && sent.refused?.code === storeAway
    arena.trial.check(!sent.refused || maybeStored, 'a message was refused', { sent })
  })
  await chat.settle()
}

/** A deletion, or several, at the moment at which the reply ends: nothing comes back. */
const deleteAgainstFinish = async (arena: Arena) => {
  const ms = arena.random.upTo(150)
  const chat = await arena.newChat()
  const lasts = arena.random.chance(0.3) ? longMs : ms
  const entry = await chat.begin(arena.prompt(lasts), keyOf(arena))
  const queued = arena.random.chance(0.3) ? [await chat.begin(arena.prompt(20), keyOf(arena))] : []
  await arena.soon(ms * 2 + 10)
  await deleteOnce(arena, chat, between(arena.random, 1, 3))
  await chat.verifyGone([entry, ...queued])
}

/** Messages that are sent while their chat is deleted: stored and gone, or refused. */
const sendAgainstDelete = async (arena: Arena) => {
  const { random } = arena
  const chat = await arena.newChat({ inOrder: false })
  const count = between(random, 1, 6)
  const entries = Array.from({ length: count }, () =>
    chat.ledger.plan(arena.prompt(pick(random, [10, 100, longMs])), keyOf(arena)),
  )
  const send = async (entry: Entry) => {
    await arena.soon(20)
    const sent = await chat.send(entry)
    // The last is for who waited for a reply that was then deleted.
    const codes = ['CHAT_NOT_FOUND', 'MESSAGE_NOT_FOUND']
    if (entry.key === undefined) codes.push(storeAway)
    const rightly = !sent.refused || codes.includes(sent.refused.code)
    arena.trial.check(rightly, 'a message was refused', { sent })
  }
  const remove = async () => {
    await arena.soon(25)
    await deleteOnce(arena, chat, 1)
  }
  await Promise.all([...entries.map(send), remove()])
  await chat.verifyGone(entries)
}

/** A server that was stopped for longer than its lease comes back, and may not be the owner any more. */
const takeoverAgainstRevived = async (arena: Arena) => {
  const chat = await arena.newChat()
  const entry = await chat.begin(arena.prompt(between(arena.random, 200, 1500)))
  const next = arena.random.chance(0.5) ? await chat.begin(arena.prompt(50)) : undefined
  await arena.soon(300)
  await arena.suspendServer()
  const stopped = pick(arena.random, [entry, next, undefined])
  if (stopped) await chat.stop(stopped)
  await chat.settle()
}

const keyOf = (arena: Arena) =>
  arena.random.chance(0.7) ? `key-${arena.trial.serial()}` : undefined

/** Deletes a chat by several requests at once, of which one finds it. */
async function deleteOnce(arena: Arena, chat: ArenaChat, count: number): Promise<void> {
  const { caller } = arena
  const before = caller.retries
  const answers = await atOnce(arena, count, 5, () =>
    caller.call('DELETE', `/api/ai/chats/${chat.id}`),
  )
  const statuses = answers.map(({ status }) => status).sort()
  const [first, ...others] = statuses
  // A deletion whose answer was lost is found to be done when it is asked for again.
  const isDone = first === 204 || (first === 404 && caller.retries > before)
  const right = isDone && others.every((status) => status === 404)
  arena.trial.check(right, 'a deletion was answered wrongly', { statuses })
}

export const scenarios: readonly (readonly [string, Race])[] = Object.entries({
  equalKeys,
  stopAgainstFinish,
  twoStops,
  stopAgainstBegin,
  sendsAtOnce,
  deleteAgainstFinish,
  sendAgainstDelete,
  takeoverAgainstRevived,
})
