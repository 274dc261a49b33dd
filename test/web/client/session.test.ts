import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { ChatError } from '../../../web/client/chat-error.js'
import { type Locks, Session } from '../../../web/client/session.js'
import { storedTokens, type Tokens, type WebStorage } from '../../../web/client/token-store.js'
import type { SignedIn } from '../../../web/client/types.js'
import { api } from '../../services/app.js'
import { hear } from '../../services/client.js'
import { startConversation } from '../../services/conversation.js'
import { eventually } from '../../services/eventually.js'
import { startTcpProxy } from '../../services/tcp-proxy.js'
import { newClient, signedInClient } from './clients.js'

/** A browser's storage that the clients of a test share as tabs do. */
function newStorage(): WebStorage & { readonly entries: Map<string, string> } {
  const entries = new Map<string, string>()
  return {
    entries,
    getItem: (key) => entries.get(key) ?? null,
    setItem: (key, value) => void entries.set(key, value),
    removeItem: (key) => void entries.delete(key),
  }
}

/** Web Locks, whose holders of one name wait for each other. */
function newLocks(): Locks {
  const held = new Map<string, Promise<unknown>>()
  return {
    async request(name, { ifAvailable }, run) {
      if (ifAvailable && held.has(name)) return run(null)
      const turn = (held.get(name) ?? Promise.resolve()).then(() => run({}))
      const over = turn
        .catch(() => {})
        .then(() => {
          if (held.get(name) === over) held.delete(name)
        })
      held.set(name, over)
      return turn
    },
  }
}

const refreshCall = 'POST /api/auth/refresh'
const shortLife = { JWT_EXPIRES_IN: '2s' }
/** After this a token of two seconds has expired. */
const expiredMs = 2100

t.test('many callers at once renew an expired token once', async (t) => {
  const { url } = await startConversation(t, shortLife)
  const { client, countOf } = await signedInClient(t, { url })
  await delay(expiredMs)
  await Promise.all(Array.from({ length: 20 }, () => client.rest.profile()))
  t.equal(countOf(refreshCall), 1)
})

t.test('a token that the server refuses is renewed, whatever the clock says', async (t) => {
  const { url } = await startConversation(t, shortLife)
  const kept = newStorage()
  const { client, user, countOf } = await signedInClient(t, { url, tokens: storedTokens(kept) })
  const store = storedTokens(kept)
  store.write({ ...(store.read() as Tokens), renewAt: Number.MAX_SAFE_INTEGER })
  await delay(expiredMs)
  t.same(await client.rest.profile(), user)
  t.equal(countOf(refreshCall), 1)
})

t.test('a refresh whose answer is lost is asked for again', async (t) => {
  const { url } = await startConversation(t, shortLife)
  const proxy = await startTcpProxy(t, url)
  const { client, user, countOf } = await signedInClient(t, { url: proxy.url })
  await delay(expiredMs)
  const lost = proxy.loseAnswerTo(refreshCall)
  t.same(await client.rest.profile(), user)
  await lost
  t.equal(countOf(refreshCall), 2)
})

t.test('two clients of one store, as two tabs are, go on with each other’s tokens', async (t) => {
  const { url } = await startConversation(t, shortLife)
  const kept = newStorage()
  const { client, user } = await signedInClient(t, { url, tokens: storedTokens(kept) })
  const other = newClient(t, { url, tokens: storedTokens(kept) })
  t.equal(await other.userId(), user.id)
  for (let round = 0; round < 3; round += 1) {
    await delay(expiredMs)
    const users = await Promise.all([client.rest.profile(), other.rest.profile()])
    t.same(users, [user, user])
  }
})

t.test('with locks, one of many tabs renews', async (t) => {
  const locks = newLocks()
  const kept = newStorage()
  let refreshes = 0
  const tab = () =>
    new Session({
      store: storedTokens(kept),
      refresh: async (refreshToken) => {
        refreshes += 1
        await delay(20)
        return { token: `${refreshToken}+`, refreshToken: `${refreshToken}+`, expiresIn: 60 }
      },
      locks,
      lockName: 'tokens',
    })
  const tabs = Array.from({ length: 5 }, tab)
  const user = { id: 'a'.repeat(24), username: 'ada', email: '', createdAt: '' }
  await tabs[0]?.start({ token: 'r', refreshToken: 'r', expiresIn: 0, user })
  const tokens = await Promise.all(tabs.map((session) => session.token()))
  t.same(new Set(tokens), new Set(['r+']))
  t.equal(refreshes, 1)
})

t.test('a tab that sees another’s tokens late waits for them', async (t) => {
  const locks = newLocks()
  const kept = newStorage()
  let seen = ''
  /** The second tab's view of the storage. */
  const late = { ...kept, getItem: () => seen }
  const spent: string[] = []
  const tab = (storage: WebStorage) =>
    new Session({
      store: storedTokens(storage),
      refresh: async (refreshToken) => {
        spent.push(refreshToken)
        return { token: `${refreshToken}+`, refreshToken: `${refreshToken}+`, expiresIn: 60 }
      },
      locks,
      lockName: 'tokens',
    })
  const [first, second] = [tab(kept), tab(late)]
  const user = { id: 'a'.repeat(24), username: 'ada', email: '', createdAt: '' }
  await first.start({ token: 'r', refreshToken: 'r', expiresIn: 0, user })
  const update = () => {
    seen = [...kept.entries.values()][0] ?? ''
  }
  update()
  t.equal(await first.token(), 'r+')
  setTimeout(update, 50)
  t.equal(await second.token(), 'r+')
  t.same(spent, ['r'])
})

t.test('a tab that holds the lock and is frozen stops nobody', async (t) => {
  const wait = globalThis.setTimeout
  t.teardown(() => {
    globalThis.setTimeout = wait
  })
  globalThis.setTimeout = Object.assign((run: () => void) => wait(run, 0), wait)
  const locks: Locks = {
    request: (_name, { signal, ifAvailable }, run) =>
      ifAvailable || !signal
        ? run({})
        : new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason))
          }),
  }
  const session = new Session({
    store: storedTokens(newStorage()),
    refresh: async () => ({ token: 'new', refreshToken: 'new', expiresIn: 60 }),
    locks,
    lockName: 'tokens',
  })
  const user = { id: 'a'.repeat(24), username: 'ada', email: '', createdAt: '' }
  await session.start({ token: 'old', refreshToken: 'old', expiresIn: 0, user })
  t.equal(await session.token(), 'new')
})

t.test('a refresh token that is used too late ends the session with an event', async (t) => {
  const { url } = await startConversation(t, shortLife)
  const kept = newStorage()
  const { client, account } = await signedInClient(t, { url, tokens: storedTokens(kept) })
  const ends: string[] = []
  client.on('signed-out', ({ code }) => ends.push(code))
  const store = storedTokens(kept)
  store.write({ ...(store.read() as Tokens), refreshToken: 'unknown', renewAt: 0 })
  await t.rejects(client.rest.profile(), { name: 'ChatError', code: 'BAD_REFRESH_TOKEN' })
  t.same(ends, ['BAD_REFRESH_TOKEN'])
  t.equal(kept.entries.size, 0, 'the tokens are forgotten')
  await t.rejects(client.rest.profile(), { name: 'ChatError', code: 'SIGNED_OUT' })
  await client.logIn({ username: account.username, password: account.password })
  t.equal((await client.rest.profile()).username, account.username)
})

t.test('a logout elsewhere ends the session of a socket, with one event', async (t) => {
  const { url } = await startConversation(t)
  const { client, account } = await signedInClient(t, { url })
  await client.connect()
  await hear(client.socket, 'connect')
  const ends: string[] = []
  client.on('signed-out', ({ code }) => ends.push(code))
  const elsewhere = await api(url)<SignedIn>('POST', '/api/auth/login', {
    username: account.username,
    password: account.password,
  })
  await api(url, elsewhere.body.token)('POST', '/api/auth/logout-everywhere')
  await eventually('the client is told', () => ends.length > 0)
  t.match(client.connection, { status: 'closed', error: { code: 'LOGGED_OUT' } })
  await t.rejects(client.rest.profile(), { code: 'SIGNED_OUT' })
  t.same(ends, ['LOGGED_OUT'])
})

t.test('the socket, REST and streams outlive five tokens with one renewal each', async (t) => {
  const { url } = await startConversation(t, shortLife)
  const { client, countOf } = await signedInClient(t, { url })
  await client.connect()
  await hear(client.socket, 'connect')
  client.socket.on('disconnect', (reason) => t.fail(`disconnected: ${reason}`))
  let warnings = 0
  client.socket.on('token-expiring', () => {
    warnings += 1
  })
  const chat = await client.rest.createChat()
  const reply = await client.ask(chat.id, 'len=600 rate=50')
  t.equal(reply.status, 'complete')
  await eventually('five warnings', () => warnings >= 5)
  await client.rest.profile()
  client.socket.off('disconnect')
  t.ok(countOf(refreshCall) <= warnings + 1, `${countOf(refreshCall)} renewals`)
})

t.test('a refusal that is not about the session leaves it', async (t) => {
  const { url } = await startConversation(t)
  const { client } = await signedInClient(t, { url })
  client.on('signed-out', () => t.fail('signed out'))
  await t.rejects(client.deleteAccount('a wrong password'), {
    code: 'BAD_CREDENTIALS',
    status: 401,
  })
  const error = await client.rest.readChat('0'.repeat(24)).catch((error: unknown) => error)
  t.ok(error instanceof ChatError)
  t.ok(await client.userId())
})

t.test('after logging out, and after deleting the account, nobody is signed in', async (t) => {
  const { url } = await startConversation(t)
  const { client, account } = await signedInClient(t, { url })
  const ends: string[] = []
  client.on('signed-out', ({ code }) => ends.push(code))
  await client.logOut()
  t.equal(await client.userId(), undefined)
  await client.logIn({ email: account.email, password: account.password })
  await client.deleteAccount(account.password)
  t.same(ends, ['LOGGED_OUT', 'ACCOUNT_DELETED'])
  const { username, password } = account
  await t.rejects(client.logIn({ username, password }), { code: 'BAD_CREDENTIALS' })
})

t.test('another tab that signs in or out is heard of', async (t) => {
  const { url } = await startConversation(t)
  const kept = newStorage()
  let changed = () => {}
  const tokens = {
    ...storedTokens(kept),
    watch: (listener: () => void) => {
      changed = listener
      return () => {}
    },
  }
  const { client, account } = await signedInClient(t, { url, tokens })
  const other = newClient(t, { url, tokens: storedTokens(kept) })
  const heard: string[] = []
  client.on('signed-out', ({ code }) => heard.push(code))
  client.on('signed-in', ({ userId }) => heard.push(userId))
  await other.userId()
  await other.logOut()
  changed()
  await eventually('the logout is heard', () => heard.length === 1)
  const user = await other.logIn({ username: account.username, password: account.password })
  changed()
  await eventually('the login is heard', () => heard.length === 2)
  t.same(heard, ['LOGGED_OUT', user.id])
})
