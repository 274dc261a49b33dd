import { io, type Socket } from 'socket.io-client'
import t from 'tap'
import type * as schemas from '../../../schemas/events.js'
import type {
  ClientAnswers,
  ClientEvents,
  ClientPayloads,
  Message,
  ServerEvents,
} from '../../../web/client/types.js'
import { hear } from '../../services/client.js'
import { startConversation } from '../../services/conversation.js'
import { eventually, patienceMs } from '../../services/eventually.js'
import { standInReply } from '../../services/ollama-stand-in.js'

/** Whether one type can stand for another. */
type Fits<A, B> = [A] extends [B] ? true : false
type Told = { [E in keyof ServerEvents]: Parameters<ServerEvents[E]>[0] }
type Tables = typeof schemas.clientEvents
type Static<S> = S extends { static: infer T } ? T : never
type Payloads = { [E in keyof Tables]: Static<Tables[E]['payload']> }
type Answers = { [E in keyof Tables]: Static<Tables[E]['answer']> }

t.test(
  'what the schemas let the server send fits the client’s types, and what these send the schemas',
  async (t) => {
    const told: Fits<schemas.ServerEvents, Told> = true
    const payloads: Fits<ClientPayloads, Payloads> = true
    const answers: Fits<Answers, ClientAnswers> = true
    t.ok(told && payloads && answers, 'or this is not compiled')
  },
)

t.test('a stock socket.io-client, typed by the event maps, holds a conversation', async (t) => {
  const { url, user, newChat } = await startConversation(t)
  const socket: Socket<ServerEvents, ClientEvents> = io(url, {
    auth: { token: user.token },
    transports: ['websocket'],
    ackTimeout: patienceMs,
  })
  t.teardown(() => socket.disconnect())
  await hear(socket as unknown as Socket, 'connect')
  const chatId = await newChat()
  const records: Message[] = []
  const texts = new Map<string, string>()
  socket.on('message', (message) => records.push(message))
  socket.on('message-chunk', ({ messageId, delta }) => {
    texts.set(messageId, (texts.get(messageId) ?? '') + delta)
  })

  const joined = await socket.emitWithAck('join-chat', { chatId })
  t.same(joined, { ok: true, active: [] })
  const sent = await socket.emitWithAck('chat-message', { chatId, content: 'len=20' })
  if (!sent.ok) return t.fail(sent.error.message)
  const { id } = sent.reply
  await eventually('the reply has ended', () => records.some((record) => record.id === id))
  t.equal(texts.get(id), standInReply('len=20'))

  const long = await socket.emitWithAck('chat-message', { chatId, content: 'len=9999 rate=50' })
  if (!long.ok) return t.fail(long.error.message)
  const stopped = await socket.emitWithAck('stop-message', { chatId, messageId: long.reply.id })
  t.match(stopped, { ok: true, message: { status: 'stopped' } })

  const { token } = user
  t.match(await socket.emitWithAck('authenticate', { token }), { ok: true, expiresAt: /Z$/ })
  const refused = await socket.emitWithAck('leave-chat', { chatId: '0'.repeat(24) })
  t.match(!refused.ok && refused.error, { code: 'CHAT_NOT_FOUND', retryable: false })
  t.match(await socket.emitWithAck('leave-chat', { chatId }), { ok: true })
})
