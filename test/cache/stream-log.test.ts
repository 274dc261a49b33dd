import { Redis } from 'ioredis'
import t from 'tap'
import { streamLogKey } from '../../src/cache/keys.js'
import { createStreamLog } from '../../src/cache/stream-log.js'
import { newId } from '../../src/ids.js'
import { eventually } from '../services/eventually.js'

const url = process.env.REDIS_URL

if (!url) t.test('the stream log', { skip: 'REDIS_URL is not set' }, async () => {})
else {
  const client = new Redis(url)
  t.teardown(() => client.quit())
  const refusals: string[] = []
  let isAway = false
  const log = createStreamLog(client, async (operation) => {
    if (isAway) return undefined
    return operation().catch((error: Error) => {
      refusals.push(error.message)
      return undefined
    })
  })
  t.teardown(() => log.stop())
  const lifeOf = (id: string) => client.pttl(streamLogKey(id, 1).key)
  const entry = (messageId: string, content: string, delta: string) => ({
    messageId,
    epoch: 1,
    end: { content: content.length, thinking: 0 },
    delta: { content: delta, thinking: '' },
    tokens: content.length,
    renews: content === delta,
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
    t.equal(await log.append(entry(id, 'one two', 'two')), true, 'there is nothing to try again')
    t.same(refusals, [])
    t.same(await log.read(id, 1, none), { content: 'one ', thinking: '', tokens: 4 })
  })

  t.test('an entry whose acknowledgement was lost is taken as stored', async (t) => {
    const id = newId()
    for (const _ of ['first', 'again']) t.equal(await log.append(entry(id, 'one ', 'one ')), true)
    for (const _ of ['first', 'again']) t.equal(await log.append(entry(id, 'one two', 'two')), true)
    t.same(refusals, [])
    t.same(await log.read(id, 1, none), { content: 'one two', thinking: '', tokens: 7 })
  })

  t.test('a log has a life from its first entry, also where Redis lost it meanwhile', async (t) => {
    const id = newId()
    await log.append(entry(id, 'one ', 'one '))
    t.ok((await lifeOf(id)) > 0)
    await client.del(streamLogKey(id, 1).key)
    t.equal(await log.append(entry(id, 'one two', 'two')), true)
    t.ok((await lifeOf(id)) > 0)
    t.same(await log.read(id, 1, { content: 4, thinking: 0 }), {
      content: 'two',
      thinking: '',
      tokens: 7,
    })
    await log.close(id, 1)
    t.ok((await lifeOf(id)) <= 60_000)
    const neverWritten = newId()
    await log.close(neverWritten, 1)
    const life = await lifeOf(neverWritten)
    t.ok(life > 0 && life <= 60_000)
  })

  t.test('a log that is closed while Redis is away is closed when it is back', async (t) => {
    const id = newId()
    await log.append(entry(id, 'one ', 'one '))
    isAway = true
    await log.close(id, 1)
    isAway = false
    t.ok((await lifeOf(id)) > 60_000)
    await eventually('it is closed', async () => (await lifeOf(id)) <= 60_000)
    t.same(refusals, [])
  })
}
