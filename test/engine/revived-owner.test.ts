import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import Libsql from 'libsql'
import t, { type Test } from 'tap'
import type { ChatWithMessages } from '../../schemas/chats.js'
import type { Message } from '../../schemas/messages.js'
import { api } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { patient } from '../services/holding-stand-in.js'
import { never, standInReply, startStandIn } from '../services/ollama-stand-in.js'
import { startServer } from '../services/server-process.js'
import { tokensOf } from '../services/stand-in-reply.js'
import { deterministic } from '../services/stand-in-script.js'

/** Whether nobody is writing to a database. */
function isFree(path: string): boolean {
  const db = new Libsql(path, { timeout: 0 })
  try {
    db.exec('BEGIN IMMEDIATE; ROLLBACK')
    return true
  } catch (error) {
    const busy = error instanceof Libsql.SqliteError && error.code.startsWith('SQLITE_BUSY')
    if (!busy) throw error
    return false
  } finally {
    db.close()
  }
}

/** The tokens of a reply that come before it pauses. */
const pauseAt = 40

/** An Ollama whose replies pause until `letGo` is called, and then go on a little, without an end. */
async function startPausing(t: Test) {
  let isPausing = true
  let arrived = 0
  let letGo = () => {}
  const goOn = new Promise<void>((resolve) => {
    letGo = () => {
      isPausing = false
      resolve()
    }
  })
  const standIn = await startStandIn({
    script: async function* (body, model) {
      const pauses = isPausing
      let tokens = 0
      for await (const step of deterministic(body, model)) {
        yield step
        tokens += 1
        if (pauses && tokens === pauseAt) yield { wait: goOn }
        if (!pauses || tokens < 2 * pauseAt) continue
        arrived += 1
        yield { wait: never }
      }
    },
  })
  t.teardown(() => standIn.close())
  return { standIn, letGo, arrived: () => arrived }
}

t.test('an owner that was stopped while another took over says nothing more', async (t) => {
  const { standIn, letGo, arrived } = await startPausing(t)
  const DATA_DIR = t.testdir()
  const settings = { ...patient, DATA_DIR, OLLAMA_API_URL: standIn.url, LEASE_MS: '1000' }
  const first = await startServer(settings)
  t.teardown(() => first.end('SIGKILL'))
  const { user, newChat, post } = await converse(first.url)
  const socket = await connect(t, first.url, user.token, { reconnection: false })
  const heard = record(socket)
  // Two run until the first server is stopped, the others wait.
  const contents = ['len=900', 'len=800']
  for (let n = 1; n <= 12; n++) contents.push(`len=${n}`)
  const chats = await Promise.all(
    contents.map(async (content) => {
      const chatId = await newChat()
      await ask(socket, 'join-chat', { chatId })
      return { chatId, content }
    }),
  )
  const begin = async ({ chatId, content }: { chatId: string; content: string }) =>
    (await post(chatId, { content })).body.reply
  const running = await Promise.all(chats.slice(0, 2).map(begin))
  const replies: Message[] = [...running, ...(await Promise.all(chats.slice(2).map(begin)))]
  for (const [n, { id }] of running.entries()) {
    const begun = tokensOf(standInReply(contents[n] ?? '')).slice(0, pauseAt)
    await heard.until(() => heard.text(id) === begun.join('') || undefined)
  }
  await eventually('it is stopped between two transactions', () => {
    first.child.kill('SIGSTOP')
    if (isFree(join(DATA_DIR, 'chat.db'))) return true
    first.child.kill('SIGCONT')
    return false
  })
  letGo()
  await eventually('more text waits for it', () => arrived() === 2)
  // As where two containers share a volume, and neither sees the other's processes.
  await rename(join(DATA_DIR, 'lock.db'), join(DATA_DIR, 'old-lock.db'))

  const second = await startServer(settings)
  t.teardown(() => second.end('SIGKILL'))
  const again = api(second.url, user.token)
  const readAgain = async (chatId: string) =>
    (await again<ChatWithMessages>('GET', `/api/ai/chats/${chatId}`)).body.messages
  const ends: (Message | undefined)[] = []
  for (const [n, { chatId }] of replies.entries()) {
    await eventually('the second has completed it', async () => {
      return (await readAgain(chatId))[1]?.status === 'complete'
    })
    const [, reply] = await readAgain(chatId)
    t.equal(reply?.content, standInReply(contents[n] ?? ''))
    ends.push(reply)
  }
  const calls = standIn.callsOf('/api/chat')

  const before = { chunks: heard.chunks.length, starts: heard.starts.length }
  first.child.kill('SIGCONT')
  // It goes on serving: what is begun now is not what it has lost.
  const later = await converse(first.url)
  const fresh = await later.send(await later.newChat(), { content: 'len=40' })
  t.equal(fresh.body.reply.status, 'complete')
  // It ends these calls when it learns that it has lost their replies.
  for (const call of calls.slice(0, 2)) await call.whenClosed
  // What it told by then comes before this answer.
  await ask(socket, 'join-chat', { chatId: replies[0]?.chatId })
  t.same({ chunks: heard.chunks.length, starts: heard.starts.length }, before, 'nothing more')
  t.same(
    heard.messages.filter(({ role }) => role === 'assistant'),
    [],
    'nor of an end',
  )
  for (const [n, { chatId }] of replies.entries()) {
    t.same((await readAgain(chatId))[1], ends[n], 'as the winner has stored it')
  }
  t.equal(standIn.callsOf('/api/chat').length, calls.length + 1, 'none was asked again')
  t.equal(await first.end('SIGTERM'), 0)
})

t.test('an owner that nobody replaced goes on where it was', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const server = await startServer({
    DATA_DIR: t.testdir(),
    OLLAMA_API_URL: standIn.url,
    LEASE_MS: '500',
    OLLAMA_IDLE_TIMEOUT_MS: '2000',
  })
  t.teardown(() => server.end('SIGKILL'))
  const { user, newChat, post } = await converse(server.url)
  const chatId = await newChat()
  const heard = record(await connect(t, server.url, user.token))
  const socket = await connect(t, server.url, user.token)
  const told = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const content = 'len=1200 rate=150'
  const { reply } = (await post(chatId, { content })).body
  await told.chunk(reply.id)
  server.child.kill('SIGSTOP')
  const at = performance.now()
  await eventually('its lease and its patience are over', () => performance.now() - at > 3000)
  server.child.kill('SIGCONT')
  t.match(await told.message(reply.id), { status: 'complete', content: standInReply(content) })
  t.equal(told.text(reply.id), standInReply(content))
  t.equal(standIn.callsOf('/api/chat').length, 1, 'in one run')
  t.same(heard.chunks, [])
})
