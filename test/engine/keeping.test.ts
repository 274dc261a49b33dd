import t from 'tap'
import type { Message, Turn } from '../../schemas/messages.js'
import { AppError } from '../../src/errors.js'
import type { LiveReply } from '../../src/reply/live-reply.js'
import type { Checkpoint } from '../../src/stores/store.js'
import { startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { standInReply } from '../services/ollama-stand-in.js'

t.test('all texts that changed are kept together, once a second', async (t) => {
  const { app, newChat, post, read } = await startConversation(t, {
    OLLAMA_MAX_CONCURRENT: '20',
    USER_MAX_CONCURRENT: '20',
  })
  const passes: (readonly Checkpoint[])[] = []
  const { checkpoint } = app.store
  app.store.checkpoint = (checkpoints) => {
    passes.push(checkpoints)
    return checkpoint(checkpoints)
  }
  const contents = Array.from({ length: 20 }, (_, n) => `len=${700 + n} rate=25`)
  const replies: Message[] = []
  for (const content of contents) {
    replies.push((await post<Turn>(await newChat(), { content })).body.reply)
  }
  const given = () => passes.flat().map(({ id }) => id)
  await eventually('each is kept twice', () => {
    return replies.every(({ id }) => given().filter((kept) => kept === id).length >= 2)
  })
  for (const [n, { chatId }] of replies.entries()) {
    const kept = (await read(chatId)).messages[1]
    t.ok(kept?.content && standInReply(contents[n] ?? '').startsWith(kept.content))
  }
  await eventually('all have ended', () => app.generations.counts.running === 0)
  t.ok(passes.length < given().length / 4, `${passes.length} passes for ${given().length} texts`)
  for (const [n, { chatId }] of replies.entries()) {
    const content = standInReply(contents[n] ?? '')
    t.match((await read(chatId)).messages[1], { status: 'complete', content })
  }
  const before = passes.length
  const at = performance.now()
  await eventually('longer than a second', () => performance.now() - at > 1200)
  t.equal(passes.length, before, 'nothing is written where nothing changed')
})

t.test('a checkpoint has what came since the last one that was stored', async (t) => {
  const { app, newChat, post, read } = await startConversation(t)
  const { checkpoint } = app.store
  const given: Checkpoint[] = []
  let refusals = 0
  app.store.checkpoint = async (checkpoints) => {
    given.push(...checkpoints)
    // The second is stored, and its answer lost.
    const lost = await checkpoint(checkpoints)
    if (given.length !== 2) return lost
    refusals += 1
    throw Object.assign(new Error('away'), { code: 'STORE_UNAVAILABLE' })
  }
  const content = 'len=4000 rate=150'
  const { reply } = (await post<Turn>(await newChat(), { content })).body
  await eventually('four checkpoints', () => given.length >= 4)
  const kept = (await read(reply.chatId)).messages[1]?.content ?? ''
  t.ok(standInReply(content).startsWith(kept) && kept.length > 0, 'no part is missing or doubled')
  t.equal(refusals, 1)
  const ends = given.map(({ from, content }) => from.content + content.length)
  const starts = given.map(({ from }) => from.content)
  t.strictSame(starts.slice(0, 4), [0, ends[0], ends[0], ends[2]])
  await eventually('it has ended', () => app.generations.counts.running === 0)
  t.match((await read(reply.chatId)).messages[1], { content: standInReply(content) })
})

for (const [what, count, give] of [
  // Each is taken for stored, which leaves a gap that only the whole text fills.
  ['many pieces', 1000, (reply: LiveReply) => reply.markStored(reply.unstored())],
  ['pieces that may be stored', 900, (reply: LiveReply) => void reply.unstored()],
] as const) {
  t.test(`after ${what} the store is given the whole text`, async (t) => {
    const { app, newChat, post, read } = await startConversation(t)
    const { checkpoint, updateReply } = app.store
    app.store.checkpoint = async () => {
      throw new AppError('STORE_UNAVAILABLE')
    }
    const content = 'len=20000 rate=100'
    const { reply } = (await post<Turn>(await newChat(), { content })).body
    await eventually('it has text', () => {
      const live = app.generations.reader.live(reply.id)
      if (!live || live.text.length < 300) return false
      for (let n = 0; n < count; n++) give(live)
      return true
    })
    const given: string[] = []
    app.store.updateReply = (id, condition, change) => {
      if (change.content !== undefined) given.push(change.content)
      return updateReply(id, condition, change)
    }
    app.store.checkpoint = checkpoint
    await eventually('the whole text is given', () => given.length > 0)
    const [whole = ''] = given
    t.ok(whole.length >= 300)
    await eventually('the next piece follows', async () => {
      const kept = (await read(reply.chatId)).messages[1]?.content ?? ''
      return kept.length > whole.length && standInReply(content).startsWith(kept)
    })
    t.equal(given.length, 1, 'once')
  })
}

t.test('a store that is away for a while costs no text and no end', async (t) => {
  const { app, newChat, post, read } = await startConversation(t)
  const { updateReply, checkpoint } = app.store
  const content = 'len=600 rate=150'
  const { reply } = (await post<Turn>(await newChat(), { content })).body
  await eventually(
    'it runs',
    () => app.generations.reader.live(reply.id)?.row.status === 'streaming',
  )
  let refusals = 0
  const away = async () => {
    refusals++
    throw Object.assign(new Error('away'), { code: 'STORE_UNAVAILABLE' })
  }
  app.store.updateReply = away
  app.store.checkpoint = away
  await eventually('its end could not be stored', () => refusals > 3)
  t.equal((await read(reply.chatId)).messages[1]?.status, 'streaming', 'nobody is told of an end')
  app.store.updateReply = updateReply
  app.store.checkpoint = checkpoint
  await eventually('it has ended', () => app.generations.counts.running === 0)
  t.match((await read(reply.chatId)).messages[1], {
    status: 'complete',
    content: standInReply(content),
  })
})
