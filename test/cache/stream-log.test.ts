import { Redis } from 'ioredis'
import t from 'tap'
import { createStreamLog } from '../../src/cache/stream-log.js'
import { newId } from '../../src/ids.js'

const url = process.env.REDIS_URL

if (!url) t.test('the stream log', { skip: 'REDIS_URL is not set' }, async () => {})
else {
  const client = new Redis(url)
  t.teardown(() => client.quit())
  const refusals: string[] = []
  const log = createStreamLog(client, (operation) =>
    operation().catch((error: Error) => {
      refusals.push(error.message)
      return undefined
    }),
  )
  const entry = (messageId: string, content: string, delta: string) => ({
    messageId,
    epoch: 1,
    end: { content: content.length, thinking: 0 },
    delta: { content: delta, thinking: '' },
    tokens: content.length,
    isFirst: content === delta,
  })
  const none = { content: 0, thinking: 0 }

  t.test('what is appended is read, from any length on', async (t) => {
    const id = newId()
    t.equal(await log.append(entry(id, 'one ', 'one ')), true)
    t.equal(await log.append(entry(id, 'one two', 'two')), true)
    t.same(await log.read(id, 1, none), { content: 'one two', thinking: '', tokens: 7 })
    t.same(await log.read(id, 1, { content: 2, thinking: 0 }), {
      content: 'e two',
      thinking: '',
      tokens: 7,
    })
    t.same(await log.read(id, 2, none), { content: '', thinking: '' }, 'another run’s')
    t.same(refusals, [])
  })

  t.test('closed by many at once it is closed, and takes nothing more', async (t) => {
    const id = newId()
    await log.append(entry(id, 'one ', 'one '))
    await Promise.all(Array.from({ length: 10 }, () => log.close(id, 1)))
    t.same(refusals, [], 'that is no fault')
    t.equal(await log.append(entry(id, 'one two', 'two')), false)
    t.equal(refusals.length, 1)
    t.same(await log.read(id, 1, none), { content: 'one ', thinking: '', tokens: 4 })
  })
}
