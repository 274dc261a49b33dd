import t from 'tap'
import { AppError } from '../../src/errors.js'
import { loggerOptions } from '../../src/logging.js'
import { startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { never, type Script } from '../services/ollama-stand-in.js'
import { aTurn } from '../stores/rows.js'

/** A reply that goes on until its client leaves. */
const endless: Script = async function* () {
  for (let n = 0; ; n++) {
    yield { content: `${n} ` }
    yield { wait: new Promise((resolve) => setTimeout(resolve, 20)) }
  }
}

t.test('leases are renewed while a checkpoint hangs', async (t) => {
  const settings = { LEASE_MS: '400' }
  const { app, newChat, post } = await startConversation(t, settings, { script: endless })
  const { renewLeases } = app.store
  const untils: number[] = []
  app.store.renewLeases = async (owner, ids, until) => {
    const lost = await renewLeases(owner, ids, until)
    untils.push(until.getTime())
    return lost
  }
  let isHanging = false
  app.store.checkpoint = async () => {
    isHanging = true
    return never
  }
  await post(await newChat(), { content: 'go' })
  await eventually('a checkpoint hangs', () => isHanging)
  const before = untils.length
  await eventually('the leases are renewed', () => untils.length > before + 9)
  t.same(app.generations.counts, { waiting: 0, running: 1 })
  app.store.checkpoint = async () => []
})

t.test('a renewal that hangs does not delay the next', async (t) => {
  const settings = { LEASE_MS: '1000' }
  const { app, newChat, post } = await startConversation(t, settings, { script: endless })
  const { renewLeases } = app.store
  let calls = 0
  let renewals = 0
  app.store.renewLeases = async (...lease) => {
    if (++calls === 1) return never
    const lost = await renewLeases(...lease)
    renewals++
    return lost
  }
  await post(await newChat(), { content: 'go' })
  await eventually('others are answered', () => renewals > 3)
})

t.test(
  'running replies are heard while the store refuses everything, with few warnings',
  async (t) => {
    const warnings: string[] = []
    const stream = {
      write: (line: string) => void (JSON.parse(line).level >= 40 && warnings.push(line)),
    }
    const { app, url, user, newChat, post } = await startConversation(
      t,
      { LEASE_MS: '400' },
      { script: endless },
      undefined,
      { logger: { ...loggerOptions({ LOG_LEVEL: 'info' }), stream } },
    )
    const chatId = await newChat()
    const socket = await connect(t, url, user.token)
    const heard = record(socket)
    await ask(socket, 'join-chat', { chatId })
    const { reply } = (await post(chatId, { content: 'go' })).body
    await heard.chunk(reply.id)
    const methods = { ...app.store }
    let refusals = 0
    for (const name of Object.keys(methods)) {
      Reflect.set(app.store, name, async () => {
        refusals++
        throw new AppError('STORE_UNAVAILABLE')
      })
    }
    // Every lease is over by then.
    const refusedAt = Date.now()
    await heard.until(() => (Date.now() - refusedAt > 2000 ? true : undefined))
    const before = heard.chunks.length
    await heard.until(() => (heard.chunks.length > before + 20 ? true : undefined))
    t.ok(refusals > 5, `${refusals} tries`)
    Object.assign(app.store, methods)
    await eventually(
      'the database answers again',
      () => warnings.length >= 0 && app.generations.counts.running === 1,
    )
    t.ok(warnings.length <= 4, warnings.join(''))
    const chunks = heard.chunks.length
    await heard.until(() => (heard.chunks.length > chunks + 20 ? true : undefined))
    t.same(new Set(heard.chunks.map(({ epoch }) => epoch)), new Set([1]))
  },
)

t.test('a reply that another server took over during a lapse is dropped', async (t) => {
  const settings = { LEASE_MS: '400' }
  const { app, url, user, newChat, post } = await startConversation(t, settings, {
    script: endless,
  })
  const chatId = await newChat()
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const { reply } = (await post(chatId, { content: 'go' })).body
  await heard.chunk(reply.id)
  app.store.checkpoint = async () => []
  const taken = { owner: 'another', epoch: 2, takeovers: 1, leaseUntil: new Date(9e12) }
  await app.store.updateReply(reply.id, { status: ['streaming'] }, taken)
  await eventually('it is not run here', () => app.generations.counts.running === 0)
  const row = await app.store.findMessage(user.user.id, chatId, reply.id)
  t.match(row, { status: 'streaming', ...taken })
})

t.test('an idle server asks once in LEASE_MS, and writes nothing', async (t) => {
  const leaseMs = 400
  // Through Redis other tests' servers would tell that they handed replies over.
  const { app } = await startConversation(t, { LEASE_MS: `${leaseMs}`, REDIS_URL: '' })
  const asked: { name: string; at: number }[] = []
  for (const [name, method] of Object.entries(app.store)) {
    Reflect.set(app.store, name, (...values: unknown[]) => {
      asked.push({ name, at: performance.now() })
      return method(...values)
    })
  }
  await eventually('it looks for replies of dead servers', () => asked.length > 5)
  t.same(new Set(asked.map(({ name }) => name)), new Set(['firstLeaseEnd']))
  // A timer counts from the beginning of its turn of the loop, which may be long on a busy machine.
  const gaps = asked.slice(1).map(({ at }, n) => at - (asked[n]?.at ?? 0))
  const total = gaps.reduce((sum, gap) => sum + gap, 0)
  t.ok(total > (gaps.length * leaseMs) / 2, `${gaps}`)
})

t.test('a lapsed reply whose owner renews its lease is left to the owner', async (t) => {
  const { app, standIn, user, newChat } = await startConversation(t, { LEASE_MS: '400' })
  const { store } = app
  const { findLapsedReplies, firstLeaseEnd } = store
  let isRenewed = false
  let looksAfter = 0
  store.findLapsedReplies = async (...asked) => {
    const rows = await findLapsedReplies(...asked)
    for (const { id, owner } of rows) {
      // Just after it is found.
      if (owner === 'slow') await store.renewLeases(owner, [id], new Date(Date.now() + 60_000))
      isRenewed ||= owner === 'slow'
    }
    return rows
  }
  store.firstLeaseEnd = async () => {
    if (isRenewed) looksAfter++
    return firstLeaseEnd()
  }
  // Found to be forsaken at once: nothing is waited for but the claim itself.
  const held = { owner: 'slow', leaseUntil: new Date(0) }
  const turn = aTurn({ id: await newChat(), userId: user.user.id }, held)
  const { reply } = await store.appendTurn(turn)
  await eventually('the look that found it is over', () => looksAfter > 0)
  const row = await store.findMessage(user.user.id, reply.chatId, reply.id)
  t.match(row, { owner: 'slow', epoch: 1, status: 'queued' })
  t.equal(standIn.callsOf('/api/chat').length, 0)
})

t.test('a lapsed lease is looked at twice before its reply is taken over', async (t) => {
  const { app, user, newChat } = await startConversation(t, { LEASE_MS: '2000' })
  const { store } = app
  const { findLapsedReplies } = store
  let looks = 0
  store.findLapsedReplies = async (...asked) => {
    const rows = await findLapsedReplies(...asked)
    if (rows.some(({ owner }) => owner === 'dead')) looks++
    return rows
  }
  const held = { owner: 'dead', leaseUntil: new Date(1) }
  const turn = aTurn({ id: await newChat(), userId: user.user.id }, held)
  const { reply } = await store.appendTurn(turn)
  await eventually('it is complete', async () => {
    const row = await store.findMessage(user.user.id, reply.chatId, reply.id)
    return row?.status === 'complete' || row?.status === 'error'
  })
  t.ok(looks > 1, `${looks} looks`)
})

const isShared = process.env.MONGODB_URI && process.env.REDIS_URL
const skip = !isShared && 'MONGODB_URI or REDIS_URL is not set'
t.test('no other server takes over while checkpoints are slow', { skip }, async (t) => {
  const settings = { DATA_DIR: t.testdir(), LEASE_MS: '4000' }
  const first = await startConversation(t, settings)
  const { app, standIn, url, user, newChat, post } = first
  const second = await startApp(t, { ...settings, OLLAMA_API_URL: standIn.url })
  const { findLapsedReplies } = second.app.store
  let found = 0
  second.app.store.findLapsedReplies = async (...asked) => {
    const rows = await findLapsedReplies(...asked)
    found += rows.length
    return rows
  }
  const { checkpoint } = app.store
  let checkpoints = 0
  app.store.checkpoint = async (pieces) => {
    checkpoints++
    await new Promise((resolve) => setTimeout(resolve, 5000))
    return checkpoint(pieces)
  }
  const chatId = await newChat()
  const heard = record(await connect(t, url, user.token))
  const socket = await connect(t, second.url, user.token)
  const elsewhere = record(socket)
  await ask(socket, 'join-chat', { chatId })
  // Ten seconds: several leases.
  const { reply } = (await post(chatId, { content: 'len=1500 rate=50' })).body
  const ended = await elsewhere.until(() => elsewhere.messages.find(({ id }) => id === reply.id))
  t.match(ended, { status: 'complete' })
  t.ok(checkpoints > 0)
  t.equal(found, 0, 'no lease was found lapsed')
  t.equal(standIn.callsOf('/api/chat').length, 1)
  t.same(heard.chunks, [])
})
