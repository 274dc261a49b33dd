import t from 'tap'
import type { MessageChunk, MessageStart } from '../../../schemas/messages.js'
import { ReplyText } from '../../../web/client/reply-text.js'
import { chatId, ModelReply, messageId, randomFrom } from './model-reply.js'

const chunk = (epoch: number, offset: number, delta: string): MessageChunk => ({
  chatId,
  messageId,
  epoch,
  offset,
  delta,
})
const thought = (epoch: number, offset: number, delta: string): MessageChunk => ({
  ...chunk(epoch, offset, delta),
  thinking: true,
})
const active = (epoch: number, offset: number, text: string, thinking?: string) => ({
  messageId,
  epoch,
  status: 'streaming' as const,
  offset,
  text,
  ...(thinking !== undefined && { thinking }),
})

function replyWith(text: string, epoch = 1) {
  const reply = new ReplyText(messageId)
  reply.chunk(chunk(epoch, 0, text))
  return reply
}

t.test('a chunk at the end is appended', async (t) => {
  const reply = replyWith('Hel')
  t.equal(reply.chunk(chunk(1, 3, 'lo')), 'appended')
  t.equal(reply.text, 'Hello')
  t.equal(reply.status, 'streaming')
})

t.test('a chunk that ends at or before the end is dropped', async (t) => {
  const reply = replyWith('Hello')
  t.equal(reply.chunk(chunk(1, 0, 'Hello')), 'dropped')
  t.equal(reply.chunk(chunk(1, 1, 'el')), 'dropped')
  t.equal(reply.text, 'Hello')
})

t.test('of a chunk that overlaps, what is new is appended', async (t) => {
  const reply = replyWith('Hello')
  t.equal(reply.chunk(chunk(1, 3, 'lo wor')), 'appended')
  t.equal(reply.text, 'Hello wor')
})

t.test('a chunk behind the end is a gap, and the rejoin is from the end', async (t) => {
  const reply = replyWith('Hel')
  t.equal(reply.chunk(chunk(1, 4, 'o')), 'gap')
  t.equal(reply.text, 'Hel')
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 1, offset: 3 })
})

t.test('a chunk of a newer epoch first cuts the text at its offset', async (t) => {
  const reply = replyWith('Hello old')
  t.equal(reply.chunk(chunk(2, 6, 'new')), 'appended')
  t.equal(reply.text, 'Hello new')
  t.equal(reply.epoch, 2)
})

t.test('the first chunk of a newer epoch may be lost: a rejoin settles it', async (t) => {
  const reply = replyWith('Hello old times')
  t.notOk(reply.unsure)
  t.equal(reply.chunk(chunk(2, 10, 'days')), 'appended')
  t.ok(reply.unsure)
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 1, offset: 14 })
  t.ok(reply.joined(active(2, 6, 'new days')))
  t.notOk(reply.unsure)
  t.equal(reply.text, 'Hello new days')
})

t.test('a newer epoch behind the end is a gap, of the epoch that is here', async (t) => {
  const reply = replyWith('Hel')
  t.equal(reply.chunk(chunk(2, 5, 'x')), 'gap')
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 1, offset: 3 })
})

t.test('a chunk of an older epoch is dropped', async (t) => {
  const reply = replyWith('new', 2)
  t.equal(reply.chunk(chunk(1, 3, 'old')), 'dropped')
  t.equal(reply.chunk(thought(1, 0, 'old')), 'dropped')
  t.equal(reply.text, 'new')
})

t.test('thinking has offsets of its own', async (t) => {
  const reply = replyWith('Hello')
  t.equal(reply.chunk(thought(1, 0, 'Hmm')), 'appended')
  t.equal(reply.chunk(thought(1, 5, '!')), 'gap')
  t.equal(reply.chunk(thought(1, 2, 'm.')), 'appended')
  t.equal(reply.thinking, 'Hmm.')
  t.equal(reply.text, 'Hello')
  t.ok(reply.joined(active(1, 5, '', 'Hmm... well')))
  t.equal(reply.thinking, 'Hmm... well')
})

t.test('thinking of a newer epoch does not make the old text the new epoch’s', async (t) => {
  const reply = replyWith('old text')
  reply.chunk(thought(2, 0, 'Again'))
  t.ok(reply.settle())
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 1, offset: 8 })
  t.equal(reply.chunk(chunk(2, 0, 'new')), 'appended')
  t.equal(reply.text, 'new')
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 2, offset: 3 })
})

t.test('a join cuts the text at the offset answered and appends', async (t) => {
  const reply = replyWith('Hello old')
  t.ok(reply.joined({ ...active(2, 6, 'new'), position: 3 }))
  t.equal(reply.text, 'Hello new')
  t.equal(reply.position, 3)
})

t.test('a join that skipped an epoch is not trusted but from 0', async (t) => {
  // Epoch 2 may have begun before 5; the server knows only where epoch 3 began.
  const reply = replyWith('Hello')
  t.notOk(reply.joined(active(3, 5, ' there')))
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 1, offset: 0 })
  t.ok(reply.joined(active(3, 0, 'Help is there')))
  t.equal(reply.text, 'Help is there')
})

t.test('a join that begins behind the end is not trusted', async (t) => {
  const reply = replyWith('Hello')
  t.notOk(reply.joined(active(1, 6, 'there')))
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 1, offset: 0 })
  t.equal(reply.text, '')
})

t.test('a gap leaves a queued reply where it waits', async (t) => {
  const reply = new ReplyText(messageId)
  reply.joined({ ...active(1, 0, ''), status: 'queued', position: 3 })
  t.equal(reply.chunk(chunk(1, 4, 'o')), 'gap')
  t.match(reply, { status: 'queued', position: 3 })
})

t.test('over SSE nothing is asked for again while the epoch stays', async (t) => {
  const reply = replyWith('Hello')
  t.ok(reply.settle())
  t.equal(reply.text, 'Hello')
})

t.test('over SSE an epoch that was skipped is asked for again', async (t) => {
  const reply = replyWith('Hello')
  reply.chunk(chunk(2, 2, 'y'))
  t.ok(reply.settle())
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 2, offset: 3 })
  reply.chunk(chunk(4, 3, '!'))
  t.notOk(reply.settle())
  t.strictSame(reply.rejoinPoint(), { messageId, epoch: 1, offset: 0 })
})

t.test('a message-start tells status and place in the queue', async (t) => {
  const start = (fields: Partial<MessageStart>): MessageStart => ({
    ...new ModelReply(randomFrom(1)).message(),
    status: 'queued',
    epoch: 1,
    ...fields,
  })
  const reply = new ReplyText(messageId)
  reply.start(start({ position: 2 }))
  t.match(reply, { status: 'queued', position: 2 })
  reply.joined({ ...active(1, 0, ''), status: 'queued', position: 2 })
  reply.start(start({ position: 1 }))
  t.match(reply, { status: 'queued', position: 1 }, 'of the same epoch')
  reply.start(start({ status: 'streaming' }))
  t.equal(reply.status, 'streaming')
  t.equal(reply.position, undefined)
  reply.joined(active(3, 0, ''))
  reply.start(start({ position: 9, epoch: 2 }))
  t.equal(reply.status, 'streaming', 'one of an older epoch is dropped')
})

t.test('the final message is the truth, and nothing changes it', async (t) => {
  const reply = replyWith('Hexxx')
  reply.chunk(thought(1, 0, 'Hxx'))
  const message = { ...new ModelReply(randomFrom(1)).message(), content: 'Hello' }
  reply.message({ ...message, thinking: 'Hm' })
  t.equal(reply.text, 'Hello')
  t.equal(reply.thinking, 'Hm')
  const { thinking: _, ...silent } = message
  reply.message(silent)
  t.equal(reply.thinking, '')
  t.ok(reply.ended)
  t.equal(reply.chunk(chunk(9, 0, 'more')), 'dropped')
  t.ok(reply.joined(active(9, 0, 'more')))
  t.equal(reply.text, 'Hello')
})

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

t.test(`whatever becomes of the frames, the text is right (SEED=${seed})`, async (t) => {
  const random = randomFrom(seed)
  for (let round = 0; round < 400; round += 1) {
    const server = new ModelReply(random)
    const reply = new ReplyText(messageId)
    const onTheWay: MessageChunk[] = []
    const rejoin = () => {
      for (let tries = 0; !reply.joined(server.join(reply.rejoinPoint())); tries += 1) {
        if (tries > 2) throw new Error(`no join fits (SEED=${seed}, round ${round})`)
      }
    }
    const check = (when: string) => {
      // While only thinking was heard of the newest epoch, the text is still an older one's.
      const { text } = server.at(reply.rejoinPoint().epoch)
      const { thinking } = server.at(reply.epoch)
      if (text.startsWith(reply.text) && thinking.startsWith(reply.thinking)) return
      t.fail(`round ${round}, ${when}`, { seed, text, shown: reply.text })
    }
    for (let step = 0; step < 80; step += 1) {
      if (random.chance(0.03)) server.takeOver()
      onTheWay.push(server.generate())
      if (random.chance(0.2)) onTheWay.push(server.frameAnywhere())
      while (onTheWay.length > random.upTo(6)) {
        // One of the first few is next, which may be lost, or come again later.
        const place = random.upTo(Math.min(2, onTheWay.length - 1))
        const [frame] = random.chance(0.1)
          ? onTheWay.slice(place, place + 1)
          : onTheWay.splice(place, 1)
        if (!frame || random.chance(0.1)) continue
        if (reply.chunk(frame) === 'gap' || reply.unsure) rejoin()
        check(`after step ${step}`)
      }
    }
    rejoin()
    if (reply.text !== server.text || reply.thinking !== server.thinking) {
      t.fail(`round ${round}, at the end`, { seed, text: reply.text, truth: server.text })
    }
    reply.message(server.message())
    if (reply.text !== server.text) t.fail(`round ${round}, by its message`, { seed })
  }
  t.ok(t.passing())
})
