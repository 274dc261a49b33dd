import { EventEmitter, once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { MessageChunk } from '../../schemas/messages.js'
import { Flusher } from '../../src/engine/flusher.js'
import { ChatEvents } from '../../src/reply/chat-events.js'
import { LiveReply } from '../../src/reply/live-reply.js'

function start(t: Test) {
  const chatEvents = new ChatEvents((error) => t.error(error))
  const told: string[] = []
  const frames = new EventEmitter()
  chatEvents.listen({
    toChat(_chatId, event, payload) {
      if (event !== 'message-chunk') return
      told.push((payload as MessageChunk).delta)
      frames.emit('frame')
    },
    toUser() {},
  })
  const leases = { valid: true }
  const flusher = new Flusher(chatEvents, leases)
  t.teardown(() => flusher.close())
  return { flusher, told, leases, nextFrame: () => once(frames, 'frame') }
}

/** A reply to which its model has said `says`, which is yet to be read. */
function replyOf(id: string, flusher: Flusher, says: string, onRead: () => void = () => {}) {
  const row = { id, chatId: `chat of ${id}`, userId: 'u', seq: 2, role: 'assistant' as const }
  const now = new Date()
  const reply = LiveReply.queued({
    ...{ ...row, content: '', status: 'streaming', createdAt: now },
    ...{ epoch: 1, epochStart: 0, takeovers: 0 },
  })
  let unread = says
  reply.arriving = {
    read() {
      onRead()
      reply.append(unread, '')
      unread = ''
    },
  }
  flusher.add(reply)
  return reply
}

t.test('what came before a turn shares its frame', async (t) => {
  const { flusher, told, nextFrame } = start(t)
  const reply = replyOf('a', flusher, '1')
  reply.append('0', '')
  flusher.add(reply)
  await nextFrame()
  t.strictSame(told, ['01'])
})

t.test('a reply that nothing came for is not read again', async (t) => {
  const { flusher, told, nextFrame } = start(t)
  let reads = 0
  replyOf('a', flusher, '1', () => {
    reads += 1
  })
  await nextFrame()
  replyOf('b', flusher, 'other')
  await nextFrame()
  t.strictSame(told, ['1', 'other'])
  t.equal(reads, 1)
})

t.test('a hundred replies are read in several turns of the loop', async (t) => {
  const { flusher, told } = start(t)
  const readAt = new Set<number>()
  let turn = 0
  for (let n = 0; n < 100; n += 1) replyOf(`${n}`, flusher, `${n}`, () => readAt.add(turn))
  while (told.length < 100) {
    await nextTurn()
    turn += 1
  }
  t.strictSame(
    told,
    Array.from({ length: 100 }, (_, n) => `${n}`),
  )
  t.ok(readAt.size > 1, 'the loop has turns for other things')
})

t.test('a reply that is lost before its turn is not told', async (t) => {
  const { flusher, told, nextFrame } = start(t)
  flusher.forget(replyOf('lost', flusher, 'lost'))
  replyOf('kept', flusher, 'kept')
  await nextFrame()
  t.strictSame(told, ['kept'])
})

t.test('what a process is not sure to hold is told when it is', async (t) => {
  const { flusher, told, leases, nextFrame } = start(t)
  leases.valid = false
  replyOf('a', flusher, '1')
  for (let turn = 0; turn < 20; turn += 1) await nextTurn()
  t.strictSame(told, [])
  leases.valid = true
  await nextFrame()
  t.strictSame(told, ['1'])
})
