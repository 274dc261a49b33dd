import { EventEmitter, once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { MessageChunk } from '../../schemas/messages.js'
import { Flusher } from '../../src/chat/flusher.js'
import { Hub } from '../../src/chat/hub.js'
import { LiveReply } from '../../src/chat/live-reply.js'

function start(t: Test) {
  const hub = new Hub((error) => t.error(error))
  const told: string[] = []
  const frames = new EventEmitter()
  hub.listen({
    toChat(_chatId, event, payload) {
      if (event !== 'message-chunk') return
      told.push((payload as MessageChunk).delta)
      frames.emit('frame')
    },
    toUser() {},
  })
  const leases = { valid: true }
  const flusher = new Flusher(hub, leases)
  t.teardown(() => flusher.close())
  return { flusher, told, leases, nextFrame: () => once(frames, 'frame') }
}

/**
 * A reply to which its model says `says`, a piece at each fetch, also while something is unread;
 * `steps` is what was done to it.
 */
function replyOf(id: string, flusher: Flusher, says: string[], steps: string[] = []) {
  const row = { id, chatId: `chat of ${id}`, userId: 'u', seq: 2, role: 'assistant' as const }
  const now = new Date()
  const reply = LiveReply.queued({
    ...{ ...row, content: '', status: 'streaming', createdAt: now },
    ...{ epoch: 1, epochStart: 0, takeovers: 0 },
  })
  let taken = says.shift() ?? ''
  let isHeld = true
  reply.arriving = {
    fetch() {
      steps.push('fetch')
      const more = says.shift()
      isHeld = more !== undefined
      taken += more ?? ''
    },
    read() {
      steps.push('read')
      reply.append(taken, '')
      taken = ''
    },
    get isHeld() {
      return isHeld
    },
  }
  flusher.add(reply)
  return reply
}

t.test('what was taken before a tick and what it fetches share a frame', async (t) => {
  const { flusher, told, nextFrame } = start(t)
  const steps: string[] = []
  replyOf('a', flusher, ['1', '2', '3'], steps)
  await nextFrame()
  t.strictSame(told, ['12'])
  await nextFrame()
  t.strictSame(told, ['12', '3'], 'what is held is fetched again, although nothing arrived')
  t.strictSame(steps, ['fetch', 'read', 'fetch', 'read'])
})

t.test('what nothing came for is left to its arrivals', async (t) => {
  const { flusher, told, nextFrame } = start(t)
  const steps: string[] = []
  replyOf('a', flusher, ['1'], steps)
  await nextFrame()
  replyOf('b', flusher, ['other'])
  await nextFrame()
  t.strictSame(told, ['1', 'other'])
  t.strictSame(steps, ['fetch', 'read'])
})

t.test('each of a hundred replies is read a turn after it was fetched', async (t) => {
  const { flusher, told } = start(t)
  const all = Array.from({ length: 100 }, () => [] as string[])
  const fetchedAt: number[] = []
  const readAt: number[] = []
  let turn = 0
  all.forEach((steps, n) => {
    const { arriving } = replyOf(`${n}`, flusher, [`${n}`], steps)
    if (!arriving) throw new Error('it arrives')
    const { fetch, read } = arriving
    arriving.fetch = () => {
      fetchedAt[n] = turn
      fetch()
    }
    arriving.read = () => {
      readAt[n] = turn
      read()
    }
  })
  while (told.length < 100) {
    await nextTurn()
    turn += 1
  }
  t.strictSame(
    told,
    all.map((_, n) => `${n}`),
  )
  t.ok(
    fetchedAt.every((at, n) => (readAt[n] ?? 0) > at),
    'the loop polls in between',
  )
  t.ok(new Set(readAt).size > 1, 'and has turns for other things')
})

t.test('a reply that is lost between the two is not told', async (t) => {
  const { flusher, told, nextFrame } = start(t)
  const lost = replyOf('lost', flusher, ['lost'])
  const { arriving } = lost
  if (!arriving) return t.fail('it arrives')
  const { fetch } = arriving
  arriving.fetch = () => {
    fetch()
    flusher.forget(lost)
  }
  replyOf('kept', flusher, ['kept'])
  await nextFrame()
  t.strictSame(told, ['kept'])
})

t.test('what a process is not sure to hold is told when it is', async (t) => {
  const { flusher, told, leases, nextFrame } = start(t)
  leases.valid = false
  const steps: string[] = []
  replyOf('a', flusher, ['1', '2'], steps)
  while (steps.length < 2) await nextTurn()
  t.strictSame(told, [])
  leases.valid = true
  await nextFrame()
  t.strictSame(told, ['12'])
})
