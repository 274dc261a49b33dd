import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Message, MessageChunk, Turn } from '../../schemas/messages.js'
import { noCluster } from '../../src/cluster/cluster.js'
import { ReplyReader } from '../../src/follow/reply-reader.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import { LiveReply } from '../../src/reply/live-reply.js'
import { openSqliteStore } from '../../src/stores/sqlite.js'
import { readEvents } from '../../web/client/events.js'
import { startApp } from '../services/app.js'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { standInReply } from '../services/ollama-stand-in.js'
import { seededRandom } from '../services/random.js'
import { aChat, aTurn } from '../stores/rows.js'
import { wholeAt } from '../web/client/model-reply.js'

t.test('many devices, by socket and by stream, from any offset at any moment', async (t) => {
  const random = seededRandom(t)
  const { url, user, newChat, post, messagesOf } = await startConversation(t)
  const chatId = await newChat()
  const content = 'len=2500 rate=250'
  const whole = standInReply(content)
  const { id } = (await post<Turn>(chatId, { content })).body.reply

  /** What a device has that knew `known` units, and then what it was given. */
  const assembled = (known: string, frames: readonly MessageChunk[]) => {
    let text = known
    for (const { offset, delta } of frames) {
      if (offset !== text.length) return `a frame at ${offset} after ${text.length} units`
      text += delta
    }
    return text
  }
  const bySocket = async () => {
    await delay(random(2500))
    const socket = await connect(t, url, user.token)
    const heard = record(socket)
    const offset = random(whole.length + 100)
    const { active } = await ask(socket, 'join-chat', { chatId, messageId: id, epoch: 1, offset })
    const [answer] = active
    t.ok(answer.offset <= offset)
    if (answer.status !== 'complete') await heard.message(id)
    const known = whole.slice(0, answer.offset) + answer.text
    t.ok(assembled(known, heard.chunks) === whole, `a socket from ${offset}`)
  }
  const byStream = async () => {
    await delay(random(2500))
    const offset = random(whole.length + 100)
    const query = random(2) ? `?epoch=1&offset=${offset}` : ''
    const headers = { ...user.headers, ...(!query && { 'last-event-id': `${id}:1:${offset}` }) }
    const response = await fetch(`${url}${messagesOf(chatId)}/${id}/stream${query}`, { headers })
    const frames: MessageChunk[] = []
    let end: Message | undefined
    if (!response.body) return t.fail('no body')
    for await (const { event, data } of readEvents(response.body)) {
      if (event === 'message-chunk') frames.push(JSON.parse(data))
      if (event === 'message') end = JSON.parse(data)
    }
    const from = frames[0]?.offset ?? whole.length
    t.ok(from <= offset || from === whole.length)
    t.ok(assembled(whole.slice(0, from), frames) === whole, `a stream from ${offset}`)
    t.match(end, { id, status: 'complete', content: whole })
  }
  await Promise.all(Array.from({ length: 40 }, (_, n) => (n % 2 ? bySocket() : byStream())))
})

t.test('from another epoch: from where it began, and never from beyond the end', async (t) => {
  const DATA_DIR = t.testdir()
  const first = await startConversation(t, { DATA_DIR })
  const { standIn, user, newChat, post, messagesOf } = first
  const chatId = await newChat()
  const content = 'len=4000 rate=150'
  const whole = standInReply(content)
  const { id } = (await post<Turn>(chatId, { content })).body.reply
  const early = await connect(t, first.url, user.token)
  const heard = record(early)
  await ask(early, 'join-chat', { chatId })
  await heard.until(() => (heard.text(id).length > 200 ? true : undefined))
  await first.close()

  const second = await startApp(t, { DATA_DIR, OLLAMA_API_URL: standIn.url })
  const socket = await connect(t, second.url, user.token)
  const told = record(socket)
  await ask(socket, 'join-chat', { chatId })
  const chunk = await told.chunk(id)
  t.equal(chunk.epoch, 2)
  const row = await second.app.store.findMessage(user.user.id, chatId, id)
  const began = row?.epochStart ?? 0
  t.ok(began >= 200 && began < whole.length, `epoch 2 began at ${began}`)
  await told.until(() => (told.text(id).length > 100 ? true : undefined))

  // Nobody is answered from inside a surrogate pair.
  const later = wholeAt(whole, began + 50)
  const answered = async (position: object) => {
    const { active } = await ask(socket, 'join-chat', { chatId, messageId: id, ...position })
    const [{ offset, text, epoch }] = active
    t.equal(epoch, 2)
    t.ok(whole.startsWith(whole.slice(0, offset) + text), 'right to the end')
    return offset
  }
  t.equal(await answered({ epoch: 2, offset: later }), later)
  t.equal(await answered({ epoch: 1, offset: later }), began, 'what may not stand any more')
  t.equal(await answered({ epoch: 1, offset: 7 }), 7)
  t.equal(await answered({ epoch: 9, offset: later }), began)
  t.equal(await answered({ offset: 12 }), 12, 'of the current epoch, where none is named')
  t.equal(await answered({}), 0)
  t.ok((await answered({ epoch: 2, offset: 1_000_000 })) < whole.length)

  for (const [lastEventId, from] of [
    [`${id}:1:${later}`, began],
    [`${id}:2:${later}`, later],
    [`${id}:1:3`, 3],
  ] as const) {
    const gone = new AbortController()
    const response = await fetch(`${second.url}${messagesOf(chatId)}/${id}/stream`, {
      headers: { ...user.headers, 'last-event-id': lastEventId },
      signal: gone.signal,
    })
    if (!response.body) return t.fail('no body')
    for await (const { event, data, id: eventId } of readEvents(response.body)) {
      if (event !== 'message-chunk') continue
      const frame: MessageChunk = JSON.parse(data)
      t.match(frame, { epoch: 2, offset: from })
      t.equal(eventId, `${id}:2:${from + frame.delta.length}`)
      break
    }
    gone.abort()
  }
})

t.test('a reply that was deleted is not found while its run here still ends', async (t) => {
  const store = openSqliteStore(t.testdir())
  t.teardown(() => store.close())
  const chat = aChat()
  await store.createChat(chat)
  const { reply: row } = await store.appendTurn(aTurn(chat))
  const reply = LiveReply.queued(row)
  const held = new HeldReplies()
  held.hold(reply)
  const reader = new ReplyReader({ store, held, cluster: noCluster })
  t.equal(await reader.find(chat.userId, chat.id, row.id), row)
  await store.deleteChat(chat.userId, chat.id)
  reply.interrupt('lost')
  t.equal(reply.isOver, false)
  await t.rejects(reader.find(chat.userId, chat.id, row.id), { code: 'MESSAGE_NOT_FOUND' })
})
