import t from 'tap'
import { eventId, followEnded, followLive, resumeOffset } from '../../src/follow/follow.js'
import { newId } from '../../src/ids.js'
import { LiveReply } from '../../src/reply/live-reply.js'
import type { MessageRow } from '../../src/stores/store.js'

const aRow = (fields: Partial<MessageRow> = {}): MessageRow => ({
  id: newId(),
  chatId: newId(),
  userId: newId(),
  createdAt: new Date(),
  role: 'assistant',
  status: 'streaming',
  content: '',
  epoch: 3,
  epochStart: 6,
  takeovers: 0,
  seq: 2,
  ...fields,
})

const text = 'Hello, 😀!'

t.test('a client rejoins', async (t) => {
  const from = (position: object) => resumeOffset({ epoch: 3, epochStart: 6 }, text, position)

  t.test('from its offset when it names the current epoch, or none', async (t) => {
    t.equal(from({ epoch: 3, offset: 7 }), 7)
    t.equal(from({ offset: 7 }), 7)
    t.equal(from({ epoch: 3, offset: 2 }), 2)
  })

  t.test('from 0 when it names no offset', async (t) => {
    t.equal(from({}), 0)
    t.equal(from({ epoch: 3 }), 0)
  })

  t.test('of any other epoch from no later than the current one began', async (t) => {
    for (const epoch of [1, 2, 4]) {
      t.equal(from({ epoch, offset: 7 }), 6)
      t.equal(from({ epoch, offset: 5 }), 5)
    }
  })

  t.test('never from beyond the end', async (t) => {
    t.equal(from({ offset: text.length }), text.length)
    t.equal(from({ offset: text.length + 1 }), text.length)
    t.equal(from({ epoch: 1, offset: 1000 }), 6)
    t.equal(resumeOffset({ epoch: 2, epochStart: 9 }, 'short', { epoch: 1, offset: 20 }), 5)
  })

  t.test('never from inside a surrogate pair', async (t) => {
    t.equal(text.slice(7, 9), '😀')
    t.equal(from({ offset: 8 }), 7)
    t.equal(from({ offset: 9 }), 9)
    const bounds = (whole: string) => {
      return Array.from(whole.split(''), (_, offset) =>
        resumeOffset({ epoch: 1, epochStart: 0 }, whole, { offset }),
      )
    }
    t.same(bounds('😀'), [0, 0])
    t.same(bounds('\uffff\uffffx'), [0, 1, 2], 'the last unit below the pairs stands alone')
    t.same(bounds('\u{10000}x'), [0, 0, 2], 'the first code point of two units')
  })
})

t.test('an event’s id names message, epoch and end offset', async (t) => {
  t.equal(eventId('abc', 2, 17), 'abc:2:17')
})

t.test(
  'an ended reply gives its thinking from 0, the rest of its text, and its record',
  async (t) => {
    const row = aRow({
      status: 'complete',
      content: text,
      thinking: 'Hm.',
      completedAt: new Date(),
    })
    const { id: messageId, chatId } = row
    const common = { chatId, messageId, epoch: 3 }
    t.same(
      [...followEnded(row, { epoch: 3, offset: 7 })],
      [
        {
          event: 'message-chunk',
          id: `${messageId}:3:7`,
          data: { ...common, offset: 0, delta: 'Hm.', thinking: true },
        },
        {
          event: 'message-chunk',
          id: `${messageId}:3:10`,
          data: { ...common, offset: 7, delta: '😀!' },
        },
        {
          event: 'message',
          id: `${messageId}:3:10`,
          data: {
            id: messageId,
            chatId,
            seq: 2,
            role: 'assistant',
            content: text,
            thinking: 'Hm.',
            status: 'complete',
            createdAt: row.createdAt.toISOString(),
            completedAt: row.completedAt?.toISOString(),
          },
        },
      ],
    )
  },
)

t.test('an ended reply that a client has whole gives its record alone', async (t) => {
  const row = aRow({ status: 'stopped', content: text })
  const events = [...followEnded(row, { epoch: 3, offset: text.length })]
  t.same(
    events.map(({ event }) => event),
    ['message'],
  )
})

t.test(
  'an ended reply’s long texts come in frames of 16 K units, one after the other',
  async (t) => {
    const content = 'c'.repeat(40_000)
    const thinking = 't'.repeat(33_000)
    const frames = [...followEnded(aRow({ status: 'complete', content, thinking }), {})].slice(
      0,
      -1,
    )
    t.same(
      frames.map(({ id, data }) => [
        id.split(':')[2],
        'offset' in data && data.offset,
        'delta' in data && data.delta.length,
        'delta' in data && data.delta[0],
      ]),
      [
        ['0', 0, 16_384, 't'],
        ['0', 16_384, 16_384, 't'],
        ['0', 32_768, 232, 't'],
        ['16384', 0, 16_384, 'c'],
        ['32768', 16_384, 16_384, 'c'],
        ['40000', 32_768, 7232, 'c'],
      ],
    )
  },
)

t.test('all who follow an ended reply share its record', async (t) => {
  const row = aRow({ status: 'complete', content: 'Hello' })
  const [end, again] = [[...followEnded(row, {})].at(-1), [...followEnded(row, {})].at(-1)]
  t.ok(end?.event === 'message' && end.data === again?.data)
})

/** A held reply's stream, read by hand. */
function follow(reply: LiveReply, position: object = {}) {
  const gone = new AbortController()
  const events = followLive(reply, position, gone.signal)
  return {
    gone,
    /** The next event, short. */
    async next() {
      const { value, done } = await events.next()
      if (done || !value) return 'over'
      const { event, id, data } = value
      const at = id.split(':')[2]
      if (event === 'message-start') return [event, at, data.status, data.position]
      if (event === 'message') return [event, at, data.content]
      const kind = data.thinking ? 'thinking' : 'text'
      return [event === 'message-chunk' ? kind : event, at, data.offset, data.delta]
    },
  }
}

const tellNobody = () => {}

t.test('a running reply gives its start, what was missed, what comes, and its end', async (t) => {
  const reply = new LiveReply(aRow(), { content: 'Hello', thinking: 'Hm' })
  const { next } = follow(reply, { epoch: 3, offset: 2 })
  t.same(await next(), ['message-start', '2', 'streaming', undefined])
  t.same(await next(), ['thinking', '2', 0, 'Hm'])
  t.same(await next(), ['text', '5', 2, 'llo'])
  const later = next()
  reply.append(' there', '.')
  reply.flush(tellNobody)
  t.same(await later, ['thinking', '5', 2, '.'])
  t.same(await next(), ['text', '11', 5, ' there'])
  const end = next()
  reply.append('!', '')
  reply.flush(tellNobody)
  reply.finish({ ...reply.row, status: 'complete', content: 'Hello there!' })
  t.same(await end, ['text', '12', 11, '!'])
  t.same(await next(), ['message', '12', 'Hello there!'])
  t.equal(await next(), 'over')
})

t.test('a waiting reply gives each place once, then its start', async (t) => {
  const reply = LiveReply.queued(aRow({ status: 'queued', epochStart: 0 }))
  reply.waitAt({ position: 2 })
  const { next } = follow(reply)
  t.same(await next(), ['message-start', '0', 'queued', 2])
  const second = next()
  // Woken by a flush, which changes no place.
  reply.flush(tellNobody)
  await new Promise(setImmediate)
  reply.waitAt({ position: 1 })
  t.same(await second, ['message-start', '0', 'queued', 1])
  const third = next()
  reply.begin({ ...reply.row, status: 'streaming' })
  t.same(await third, ['message-start', '0', 'streaming', undefined])
  const text = next()
  reply.append('Hello', '')
  reply.flush(tellNobody)
  t.same(await text, ['text', '5', 0, 'Hello'], 'and no start again')
})

t.test('a reply that this process lost ends its stream without a record', async (t) => {
  const reply = new LiveReply(aRow(), { content: 'Hello', thinking: '' })
  const { next } = follow(reply, { offset: 5 })
  t.same(await next(), ['message-start', '5', 'streaming', undefined])
  const end = next()
  reply.finish(undefined)
  t.equal(await end, 'over')
})

t.test('a client that goes ends its stream', async (t) => {
  const reply = new LiveReply(aRow(), { content: '', thinking: '' })
  const { next, gone } = follow(reply)
  t.same(await next(), ['message-start', '0', 'streaming', undefined])
  const end = next()
  gone.abort()
  t.equal(await end, 'over')
  const late = follow(reply)
  late.gone.abort()
  t.equal(await late.next(), 'over')
})
