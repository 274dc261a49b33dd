import t from 'tap'
import type { MessageChunk } from '../../schemas/messages.js'
import { newId } from '../../src/ids.js'
import { LiveReply } from '../../src/reply/live-reply.js'
import { withPieces } from '../../src/stores/text-pieces.js'
import { seededRandom } from '../services/random.js'

const aReply = (content = '', thinking = '') => {
  const ids = { id: newId(), chatId: newId(), userId: newId() }
  const common = { createdAt: new Date(), epoch: 1, epochStart: 0, takeovers: 0, seq: 2 }
  const row = { ...ids, ...common, role: 'assistant', status: 'streaming', content: '' } as const
  return new LiveReply(row, { content, thinking })
}

t.test('a long text that grows is told, read and kept without a gap', async (t) => {
  const random = seededRandom(t)
  const begun = 'é😀'.repeat(9_000)
  const reply = aReply(begun)
  let expected = begun
  let told = begun
  let kept = { content: begun }
  const tell = ({ offset, delta }: MessageChunk) => {
    t.equal(offset, told.length)
    told += delta
  }
  for (let n = 0; n < 400; n++) {
    const delta = 'a😀漢 '.repeat(random(100)).slice(0, random(400))
    expected += delta
    reply.append(delta, '')
    if (random(3) === 0) reply.flush(tell)
    if (random(5) === 0) {
      const piece = reply.unstored()
      t.equal(piece.from.content, kept.content.length)
      kept = withPieces(kept, [piece])
      reply.markStored(piece)
    }
  }
  reply.flush(tell)
  kept = withPieces(kept, [reply.unstored()])
  t.ok(told === expected && reply.text.whole === expected, 'told, and whole')
  t.equal(reply.text.length, expected.length)
  t.ok(expected.startsWith(kept.content) && expected.length - kept.content.length < 2, 'kept')
  for (let n = 0; n < 200; n++) {
    const [from, to] = [random(expected.length), random(expected.length)]
    t.ok(reply.text.slice(from, to) === expected.slice(from, to), `${from}, ${to}`)
    t.ok(reply.text.from(from) === expected.slice(from))
    const frame = reply.frameFrom(from, false)
    t.ok(expected.startsWith(frame.delta, from) && frame.delta !== '', `a frame from ${from}`)
  }
})

t.test('half a surrogate pair is kept with its other half', async (t) => {
  const reply = aReply('', 'Hm')
  const [high, low] = ['\ud83d', '\ude00']
  reply.append(`a${high}`, '')
  const first = reply.unstored()
  t.match(first, { from: { content: 0, thinking: 2 }, content: 'a', thinking: '' })
  reply.markStored(first)
  t.ok(reply.hasUnstored)
  reply.append(low, '')
  t.match(reply.unstored(), { from: { content: 1 }, content: '😀' })
})
