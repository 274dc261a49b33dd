import { mkdtemp, rm } from 'node:fs/promises'
import type { Socket as TcpSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Turn } from '../../schemas/messages.js'
import { ask, connect, record } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { connectDeaf, followDeaf } from '../services/deaf-socket.js'
import { type Script, startStandIn } from '../services/ollama-stand-in.js'
import { startServer } from '../services/server-process.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const piece = '漢字かな交じり😀🇨🇭'.repeat(80)

/** Asked for a `flood`, over a megabyte within two seconds; else a word now and then. */
const flood: Script = async function* ({ messages }) {
  const isFlood = messages.at(-1)?.content === 'flood'
  for (let n = 0; n < 200; n++) {
    yield { content: isFlood ? piece.repeat(2) : 'word ' }
    yield { wait: delay(10) }
  }
}

/** A server as a process of its own, its Ollama, and what tells how much it grows from now on. */
async function startFlooded(t: Teardown) {
  const standIn = await startStandIn({ script: flood })
  t.teardown(() => standIn.close())
  const DATA_DIR = await mkdtemp(join(tmpdir(), 'chat-slow-'))
  t.teardown(() => rm(DATA_DIR, { recursive: true, force: true }))
  const { url, end } = await startServer({
    DATA_DIR,
    OLLAMA_API_URL: standIn.url,
    RATE_LIMIT_USER_SOCKETS: '0',
    RATE_LIMIT_USER_STREAMS: '0',
  })
  t.teardown(() => end('SIGKILL'))
  const conversation = await converse(url)
  const rssMb = async () => {
    const metrics = await (await fetch(`${url}/metrics`)).text()
    return Number(/^process_resident_memory_bytes (\S+)/m.exec(metrics)?.[1]) / 1e6
  }
  // What the reply itself takes is no cost of who hears it.
  await conversation.send(await conversation.newChat(), { content: 'flood' })
  const before = await rssMb()
  return { url, ...conversation, grownMb: async () => (await rssMb()) - before }
}

t.test('1,000 sockets that never read cost little, and delay nobody', async (t) => {
  const { url, user, newChat, post, grownMb } = await startFlooded(t)
  const chatId = await newChat()
  const deaf: TcpSocket[] = []
  t.teardown(() => {
    for (const socket of deaf) socket.destroy()
  })
  while (deaf.length < 1000) {
    const some = Array.from({ length: 50 }, () => connectDeaf(url, user.token, chatId))
    deaf.push(...(await Promise.all(some)).map(({ socket }) => socket))
  }
  const reader = await connect(t, url, user.token)
  const heard = record(reader)
  await ask(reader, 'join-chat', { chatId })
  const { reply } = (await post<Turn>(chatId, { content: 'flood' })).body
  const whole = piece.repeat(400)
  const { content } = await heard.message(reply.id)
  t.ok(content === whole, 'who reads has the whole text in the end')
  t.ok(whole.startsWith(heard.text(reply.id)), 'and every frame was right')

  // While all the others wait to be read, somebody goes on talking.
  const other = await converse(url)
  const talking = await connect(t, url, other.user.token)
  const said = record(talking)
  const sent = await ask(talking, 'chat-message', {
    chatId: await other.newChat(),
    content: 'talk',
  })
  await said.message(sent.reply.id)
  t.equal(said.text(sent.reply.id), 'word '.repeat(200))
  const mb = await grownMb()
  t.ok(mb <= 150, `the process grew by ${mb.toFixed(1)} MB`)
  t.notOk(
    deaf.some(({ destroyed }) => destroyed),
    'all of them are still there',
  )
})

t.test('300 streams that nobody reads cost little', async (t) => {
  const { url, user, newChat, post, messagesOf, grownMb } = await startFlooded(t)
  const { body } = await post<Turn>(await newChat(), { content: 'flood' })
  const { id, chatId } = body.reply
  const path = `${messagesOf(chatId)}/${id}/stream`
  const deaf = await Promise.all(
    Array.from({ length: 300 }, () => followDeaf(url, user.token, path)),
  )
  t.teardown(() => {
    for (const socket of deaf) socket.destroy()
  })
  const answer = await fetch(url + path, { headers: user.headers })
  t.match(await answer.text(), /event: message\n.*\n.*"status":"complete"/)
  const mb = await grownMb()
  // Each for itself, they would hold the text's megabyte and a half three hundred times: 450 MB.
  t.ok(mb <= 250, `the process grew by ${mb.toFixed(1)} MB`)
})
