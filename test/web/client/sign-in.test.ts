import { io } from 'socket.io-client'
import t from 'tap'
import type { TokenPair } from '../../../schemas/auth.js'
import { keepSignedIn, type SignedSocket } from '../../../web/client/sign-in.js'
import { type ChatSocket, ChatStream, type JoinFault } from '../../../web/client/stream.js'
import { api } from '../../services/app.js'
import { ask, hear } from '../../services/client.js'
import { startConversation } from '../../services/conversation.js'
import { eventually } from '../../services/eventually.js'
import { standInReply } from '../../services/ollama-stand-in.js'

/** The reference client over a real server whose tokens live for two seconds. */
async function signIn(t: { teardown(end: () => void): unknown }) {
  const conversation = await startConversation(t, { JWT_EXPIRES_IN: '2s' })
  const { url, user, newChat } = conversation
  const chatId = await newChat()
  let { refreshToken } = user
  let token = user.token
  const refresh = async (): Promise<string> => {
    const pair = await api(url)<TokenPair>('POST', '/api/auth/refresh', { refreshToken })
    ;({ token, refreshToken } = pair.body)
    return token
  }
  const socket = io(url, {
    transports: ['websocket'],
    autoConnect: false,
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
  })
  t.teardown(() => socket.disconnect())
  const ended: string[] = []
  const hooks = { token: refresh, onEnd: (code: string) => ended.push(code) }
  const stop = keepSignedIn(socket as unknown as SignedSocket, hooks)
  t.teardown(stop)
  const errors: JoinFault[] = []
  const stream = new ChatStream(socket as ChatSocket, chatId, {
    onChange: () => {},
    onError: (error) => errors.push(error),
  })
  t.teardown(() => stream.close())
  const connected = hear(socket, 'connect')
  socket.connect()
  await connected
  return { ...conversation, chatId, socket, stream, hooks, ended, errors, tokenNow: () => token }
}

t.test('renews its token in band: the socket outlives five tokens', async (t) => {
  const { socket, chatId, stream } = await signIn(t)
  socket.on('disconnect', (reason) => t.fail(`disconnected: ${reason}`))
  let renewals = 0
  socket.on('token-expiring', () => {
    renewals += 1
  })
  const content = 'len=600 rate=50'
  const { reply } = await ask(socket, 'chat-message', { chatId, content })
  await eventually('five renewals', () => renewals >= 5)
  await eventually('the reply has ended', () => stream.reply(reply.id)?.ended === true)
  t.equal(stream.reply(reply.id)?.text, standInReply(content))
  socket.off('disconnect')
})

t.test('comes back by itself when its token could not be renewed in time', async (t) => {
  const { socket, chatId, stream, hooks, ended } = await signIn(t)
  const { token } = hooks
  hooks.token = async () => {
    throw new Error('the network is away')
  }
  const content = 'len=200 rate=50'
  const { reply } = await ask(socket, 'chat-message', { chatId, content })
  t.equal((await hear(socket, 'disconnect'))[0], 'transport close')
  hooks.token = token
  await eventually('the reply has ended', () => stream.reply(reply.id)?.ended === true)
  t.equal(stream.reply(reply.id)?.text, standInReply(content))
  t.same(ended, [])
})

t.test('says so when its session ends, and waits for nothing more', async (t) => {
  const { url, socket, ended, errors, tokenNow } = await signIn(t)
  await api(url, tokenNow())('POST', '/api/auth/logout')
  await eventually('it is told', () => errors.length > 0)
  t.same(ended, ['LOGGED_OUT'])
  t.match(errors, [{ code: 'LOGGED_OUT', retryable: false }])
  t.equal(socket.active, false)
})
