import { EventEmitter, once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { MessageChunk } from '../../schemas/messages.js'
import { Flusher } from '../../src/engine/flusher.js'
import { ChatEvents } from '../../src/reply/chat-events.js'
import { LiveReply } from '../../src/reply/live-reply.js'

function start(t: Test, waitMs = 0) {
  const chatEvents = new ChatEvents({ error: ({ err }) => t.error(err) })
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
  const load = { waitMs: () => waitMs }
  const flusher = new Flusher(chatEvents, leases, load)
  t.teardown(() => flusher.close())
  return { flusher, told, leases, nextFrame: () => once(frames, 'frame') }
}

function replyOf(id: string) {
  const row = { id, chatId: `chat of ${id}`, userId: 'u', seq: 2, role: 'assistant' as const }
  const now = new Date()
  return LiveReply.queued({
    ...{ ...row, content: '', status: 'streaming', createdAt: now },
    ...{ epoch: 1, epochStart: 0, takeovers: 0 },
  })
}

function receive(flusher: Flusher, reply: LiveReply, text: string) {
  reply.append(text, '')
  flusher.add(reply)
}

t.test('text is announced at the end of the turn of the loop that read it', async (t) => {
  const { flusher, told } = start(t)
  const [a, b] = [replyOf('a'), replyOf('b')]
  receive(flusher, a, '1')
  receive(flusher, b, 'other')
  receive(flusher, a, '2')
  t.strictSame(told, [])
  await nextTurn()
  t.strictSame(told, ['12', 'other'])
  receive(flusher, a, '3')
  await nextTurn()
  t.strictSame(told, ['12', 'other', '3'])
})

t.test(
  'text waits for more while the process is short of time, a first token does not',
  async (t) => {
    const { flusher, told, nextFrame } = start(t, 1)
    const reply = replyOf('a')
    reply.append('first', '')
    flusher.add(reply, true)
    t.strictSame(told, ['first'])
    receive(flusher, reply, '1')
    receive(flusher, reply, '2')
    t.strictSame(told, ['first'])
    await nextFrame()
    t.strictSame(told, ['first', '12'])
  },
)

t.test('text that was announced before the flush is not announced again by it', async (t) => {
  const { flusher, told } = start(t)
  const reply = replyOf('a')
  receive(flusher, reply, '1')
  flusher.announce(reply)
  receive(flusher, reply, '2')
  t.strictSame(told, ['1'])
  await nextTurn()
  t.strictSame(told, ['1', '2'])
})

t.test('a reply that is lost before it is announced is not announced', async (t) => {
  const { flusher, told, nextFrame } = start(t)
  const lost = replyOf('lost')
  receive(flusher, lost, 'lost')
  flusher.forget(lost)
  receive(flusher, replyOf('kept'), 'kept')
  await nextFrame()
  t.strictSame(told, ['kept'])
})

t.test('text of a process whose leases lapsed is announced when they are renewed', async (t) => {
  const { flusher, told, leases, nextFrame } = start(t)
  leases.valid = false
  const reply = replyOf('a')
  reply.append('1', '')
  flusher.add(reply, true)
  for (let turn = 0; turn < 20; turn += 1) await nextTurn()
  t.strictSame(told, [])
  leases.valid = true
  await nextFrame()
  t.strictSame(told, ['1'])
})
