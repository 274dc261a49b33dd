import t from 'tap'
import { ReliablePubSub } from '../../src/cache/reliable-pub-sub.js'

/** ReliablePubSub whose Redis is away as long as `isAway`, and what Redis took. */
function start() {
  const taken: string[] = []
  const redis = { isAway: false, onTaken: () => {} }
  const news = new ReliablePubSub(async (_channel, text) => {
    if (redis.isAway) return false
    taken.push(text.slice(text.indexOf(' ') + 1))
    redis.onTaken()
    return true
  })
  t.teardown(() => news.close())
  return { news, redis, taken }
}

t.test('what waits for Redis is bounded: the oldest goes first', async (t) => {
  const { news, redis, taken } = start()
  redis.isAway = true
  news.wait()
  for (let n = 0; n < 10_003; n++) await news.tell('channel', `${n}`)
  const long = 'x'.repeat(3 * 1024 * 1024)
  redis.isAway = false
  await news.catchUp()
  t.equal(taken.length, 10_000)
  t.same([taken[0], taken.at(-1)], ['3', '10002'])

  taken.length = 0
  redis.isAway = true
  news.wait()
  for (const name of ['a', 'b', 'c']) await news.tell('channel', name + long)
  redis.isAway = false
  await news.catchUp()
  t.same(
    taken.map(([name]) => name),
    ['b', 'c'],
  )
})

t.test('what comes while Redis is told what it missed waits its turn', async (t) => {
  const { news, redis, taken } = start()
  redis.isAway = true
  news.wait()
  await news.tell('channel', '1')
  await news.tell('channel', '2')
  redis.isAway = false
  const caughtUp = news.catchUp()
  await news.tell('channel', '3')
  await caughtUp
  await news.tell('channel', '4')
  t.same(taken, ['1', '2', '3', '4'])
})

t.test('asked by many at once it tells again once', async (t) => {
  const { news, redis, taken } = start()
  await news.tell('channel', '1')
  await news.tellLive('channel', 'live')
  await news.tell('channel', '2')
  const repeated = new Promise<void>((resolve) => {
    redis.onTaken = () => {
      if (taken.length >= 5) resolve()
    }
  })
  // ReliablePubSub does not keep a process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  for (const ms of [10, 500, 20]) news.repeat(ms)
  await repeated
  t.same(taken, ['1', 'live', '2', '1', '2'])
})
