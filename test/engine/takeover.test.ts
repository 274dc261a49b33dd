import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { io } from 'socket.io-client'
import t, { type Test } from 'tap'
import type { Message, Turn } from '../../schemas/messages.js'
import { followReply } from '../../web/client/follow.js'
import { ReplyText } from '../../web/client/reply-text.js'
import { ChatStream } from '../../web/client/stream.js'
import { api, outsideServices } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { converse } from '../services/conversation.js'
import { eventually, patienceMs } from '../services/eventually.js'
import { freePort } from '../services/free-port.js'
import { patient, startHolding } from '../services/holding-stand-in.js'
import { standInReply } from '../services/ollama-stand-in.js'
import { startServer } from '../services/server-process.js'

for (const continues of [true, false]) {
  const name = continues ? 'from the text that was kept' : 'from the beginning'
  t.test(`after kill -9 replies go on ${name}`, async (t) => {
    const { standIn, letGo } = await startHolding(t, continues)
    const settings = {
      ...patient,
      DATA_DIR: t.testdir(),
      OLLAMA_API_URL: standIn.url,
      PORT: `${await freePort()}`,
      OLLAMA_MAX_CONCURRENT: '2',
    }
    const first = await startServer(settings)
    t.teardown(() => first.end('SIGKILL'))
    const { url } = first
    const { user, newChat, post, read, messagesOf } = await converse(url)
    const contents = ['len=1200 rate=600 think=20', 'len=1000 rate=600', 'len=100', 'len=90']
    const replies: Message[] = []
    for (const content of contents) {
      replies.push((await post(await newChat(), { content })).body.reply)
    }
    const [watched, followed] = replies
    if (!watched || !followed) return t.fail('nothing runs')
    const socket = io(url, { auth: { token: user.token }, transports: ['websocket'] })
    t.teardown(() => socket.disconnect())
    const texts = new Set<string>()
    const stream = new ChatStream(socket, watched.chatId, {
      onChange: ({ text, ended }) => !ended && texts.add(text),
    })
    const text = new ReplyText(followed.id)
    const followUrl = `${url}${messagesOf(followed.chatId)}/${followed.id}/stream`
    const following = followReply(
      fetch,
      followUrl,
      user.token,
      text,
      AbortSignal.timeout(patienceMs),
    )
    for (const { chatId } of [watched, followed]) {
      await eventually('its text is kept', async () => {
        const reply = (await read(chatId)).messages[1]
        if (reply?.error) throw new Error(`the reply failed: ${reply.error.code}`)
        return (reply?.content.length ?? 0) > 50
      })
    }
    await eventually('both clients hear', () => {
      return text.text !== '' && (stream.reply(watched.id)?.text ?? '') !== ''
    })
    const begun = standIn.callsOf('/api/chat').length
    await first.end('SIGKILL')
    letGo()

    const second = await startServer(settings)
    t.teardown(() => second.end('SIGKILL'))
    await t.test('a client of the stream has the whole text in the end', async (t) => {
      t.equal((await following).content, standInReply(contents[1] ?? ''))
    })

    await t.test('a client of the socket has right text at every moment', async (t) => {
      await eventually('it has ended', () => stream.reply(watched.id)?.ended === true)
      const whole = standInReply(contents[0] ?? '')
      t.equal(stream.reply(watched.id)?.text, whole)
      t.same(
        [...texts].filter((seen) => !whole.startsWith(seen)),
        [],
      )
    })

    await t.test('each reply is completed once, also those that were queued', async (t) => {
      for (const [n, { chatId }] of replies.entries()) {
        await eventually('it is complete', async () => {
          return (await read(chatId)).messages[1]?.status === 'complete'
        })
        const { messages } = await read(chatId)
        t.equal(messages.length, 2)
        t.equal(messages[1]?.content, standInReply(contents[n] ?? ''))
      }
    })

    await t.test(
      'Ollama is asked once for each, and given the kept text to go on from',
      async (t) => {
        const again = standIn.callsOf('/api/chat').slice(begun)
        t.equal(again.length, 4)
        const goneOn = again.filter(({ body }) => body.messages.at(-1)?.role === 'assistant')
        t.equal(goneOn.length, continues ? 2 : 0)
      },
    )

    await t.test('a join tells the epoch of the takeover', async (t) => {
      const socket = await connect(t, url, user.token)
      const asked = { chatId: watched.chatId, messageId: watched.id }
      const { active } = await ask(socket, 'join-chat', asked)
      t.match(active, [{ epoch: 2, status: 'complete' }])
    })
  })
}

/** A server that was killed in the middle of a reply to `left`, and another one after it. */
async function killedInAReply(t: Test, shared: Readonly<Record<string, string>>) {
  const { standIn, letGo } = await startHolding(t)
  const settings = { ...patient, DATA_DIR: t.testdir(), OLLAMA_API_URL: standIn.url, ...shared }
  const first = await startServer(settings)
  t.teardown(() => first.end('SIGKILL'))
  const { user, newChat, post, read } = await converse(first.url)
  const chatId = await newChat()
  const left = 'len=3000 rate=1500'
  await post(chatId, { content: left })
  await eventually('its text is kept', async () => (await read(chatId)).messages[1]?.content !== '')
  await first.end('SIGKILL')
  letGo()
  return {
    standIn,
    async startNext() {
      const second = await startServer(settings)
      t.teardown(() => second.end('SIGKILL'))
      return second
    },
    /** Sends a message, which must be answered after the reply that was left, with it in its context. */
    async sendsAfter(url: string) {
      const path = `/api/ai/chats/${chatId}/messages`
      const { status, body } = await api(url, user.token)<Turn>('POST', path, { content: 'len=10' })
      t.match({ status, body }, { status: 201, body: { reply: { status: 'complete' } } })
      const [, reply, sent, ...more] = standIn.callsOf('/api/chat').at(-1)?.body.messages ?? []
      t.match([reply, sent], [{ content: standInReply(left) }, { content: 'len=10' }])
      t.same(more, [])
    },
  }
}

t.test('a message sent while a reply waits for Ollama is answered after that reply', async (t) => {
  // It looks again after two seconds.
  const { standIn, startNext, sendsAfter } = await killedInAReply(t, { LEASE_MS: '20000' })
  await standIn.stop()
  const next = await startNext()
  while (!next.lines.some((line) => line.includes('takeover waits for Ollama'))) {
    await once(next.child, 'line')
  }
  await standIn.restart()
  await sendsAfter(next.url)
})

const { MONGODB_URI } = process.env
const name = 'a message sent while a dead server’s lease lasts is answered after its reply'
if (!MONGODB_URI) t.test(name, { skip: 'MONGODB_URI is not set' }, async () => {})
else {
  t.test(name, async (t) => {
    const { MONGODB_URI } = outsideServices(`lease-${randomBytes(6).toString('hex')}`)
    const shared = { LEASE_MS: '5000', ...(MONGODB_URI && { MONGODB_URI }) }
    const { startNext, sendsAfter } = await killedInAReply(t, shared)
    await sendsAfter((await startNext()).url)
  })
}
