import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { OpenCounts } from '../../src/cache/open-counts.js'
import { eventually } from '../services/eventually.js'

const { REDIS_URL, REDIS_CLUSTER_URL } = process.env

t.test('so many may be open at once, and closing one twice makes room for one', async (t) => {
  const counts = new OpenCounts()
  t.teardown(() => counts.stop())
  const opened = await Promise.all([1, 2, 3, 4].map(() => counts.open('k', 3)))
  t.equal(opened.filter((close) => close !== undefined).length, 3)
  t.type(await counts.open('other', 3), 'function', 'each key by itself')
  opened[0]?.()
  opened[0]?.()
  t.type(await counts.open('k', 3), 'function')
  t.equal(await counts.open('k', 3), undefined)
})

for (const [where, connect] of [
  ['one Redis', REDIS_URL && (() => new Redis(REDIS_URL))],
  ['a cluster', REDIS_CLUSTER_URL && (() => new Cluster(REDIS_CLUSTER_URL.split(',')))],
] as const) {
  if (connect) t.test(`over ${where}`, async (t) => overRedis(t, connect))
  else t.test(`over ${where}`, { skip: 'its URL is not set' }, async () => {})
}

function overRedis(t: Test, connect: () => Redis | Cluster) {
  let keys = 0
  const aKey = () => `test:${process.pid}:${Date.now()}:${++keys}`
  const open = (t: Test, leaseMs?: number) => {
    const client = connect()
    const server = { isAway: false, counts: undefined as unknown as OpenCounts }
    const run = async <T>(operation: () => Promise<T>) =>
      server.isAway ? undefined : await operation()
    server.counts = new OpenCounts({ client, run }, leaseMs)
    t.teardown(() => {
      server.counts.stop()
      client.disconnect()
    })
    return server
  }

  t.test('what is open at one server counts at another', async (t) => {
    const [a, b, key] = [open(t), open(t), aKey()]
    const opened: ((() => void) | undefined)[] = []
    for (let n = 0; n < 4; n++) opened.push(await (n % 2 ? a : b).counts.open(key, 4))
    t.ok(opened.every((close) => close !== undefined))
    t.equal(await a.counts.open(key, 4), undefined)
    t.equal(await b.counts.open(key, 4), undefined)
    opened[0]?.()
    await eventually('its place is free', async () => {
      const close = await a.counts.open(key, 4)
      return close !== undefined
    })
    t.equal(await b.counts.open(key, 4), undefined)
  })

  t.test('of many that are opened at once at several servers no more are let in', async (t) => {
    const [a, b, key] = [open(t), open(t), aKey()]
    const opened = await Promise.all(
      Array.from({ length: 100 }, (_, n) => (n % 2 ? a : b).counts.open(key, 10)),
    )
    t.equal(opened.filter((close) => close !== undefined).length, 10)
  })

  t.test('what a server had open when it died is forgotten', async (t) => {
    const leaseMs = 1500
    const [dead, alive, key] = [open(t, leaseMs), open(t, leaseMs), aKey()]
    for (const { counts } of [dead, alive]) await counts.open(key, 2)
    t.equal(await alive.counts.open(key, 2), undefined)
    dead.counts.stop()
    await eventually('its place is free', async () => {
      const close = await alive.counts.open(key, 2)
      return close !== undefined
    })
    // Its own are still counted, though they were opened longer ago than the lease.
    const other = open(t, leaseMs)
    t.equal(await other.counts.open(key, 2), undefined)
  })

  t.test('a server that cannot reach Redis counts its own', async (t) => {
    const [a, b, key] = [open(t), open(t), aKey()]
    for (const { counts } of [a, b]) await counts.open(key, 2)
    t.equal(await a.counts.open(key, 2), undefined)
    a.isAway = true
    t.type(await a.counts.open(key, 2), 'function')
    t.equal(await a.counts.open(key, 2), undefined)
  })
}
