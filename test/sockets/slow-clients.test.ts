import type { Socket as TcpSocket } from 'node:net'
import { mock } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Socket } from 'socket.io-client'
import t from 'tap'
import type { Turn } from '../../schemas/messages.js'
import { backlogOf } from '../../src/sockets/backlog.js'
import { ChatStream } from '../../web/client/stream.js'
import { ask, connect, hear } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { connectDeaf, followDeaf } from '../services/deaf-socket.js'
import { eventually } from '../services/eventually.js'
import { never, type Script } from '../services/ollama-stand-in.js'

/** The TCP connection beneath a client of socket.io. */
function tcpOf(socket: Socket): TcpSocket {
  const { transport } = socket.io.engine as unknown as {
    transport: { ws: { _socket: TcpSocket } }
  }
  return transport.ws._socket
}

const piece = '漢字かな交じり😀🇨🇭'.repeat(80)

/** A reply that goes on until it is told to end. */
function endless(): { script: Script; finish: () => void } {
  let goesOn = true
  return {
    finish: () => {
      goesOn = false
    },
    async *script() {
      while (goesOn) {
        yield { content: piece.repeat(10) }
        yield { wait: delay(20) }
      }
    },
  }
}

t.test('a socket cut off for being slow can rejoin and ends with the right text', async (t) => {
  const { script, finish } = endless()
  const { app, url, user, newChat, post, read } = await startConversation(t, {}, { script })
  t.teardown(finish)
  const chatId = await newChat()
  const slow = await connect(t, url, user.token)
  const texts: string[] = []
  const stream = new ChatStream(slow, chatId, {
    onChange: ({ text, ended }) => !ended && texts.push(text),
  })
  const { body } = await post<Turn>(chatId, { content: 'go' })
  const { id } = body.reply
  await eventually('the stream begins', () => texts.some((text) => text !== ''))

  const serverSide = app.io.sockets.sockets.get(slow.id ?? '')
  if (!serverSide) return t.fail('no such socket')
  const paused = tcpOf(slow).pause()
  await eventually('it is set aside', () => !serverSide.rooms.has(chatId))
  t.ok(serverSide.connected, 'not cut off at once')
  mock.timers.enable({ apis: ['Date'], now: Date.now() + 31_000 })
  await eventually('it is cut off', () => !serverSide.connected)
  mock.timers.reset()

  const before = texts.length
  paused.resume()
  await eventually('it has rejoined', () => slow.connected && texts.length > before + 5)
  finish()
  await eventually('the reply has ended', () => stream.reply(id)?.ended === true)
  const stored = (await read(chatId)).messages[1]?.content ?? ''
  t.ok(stream.reply(id)?.text === stored, 'byte for byte')
  t.ok(stored.length > 0 && stored.length % piece.length === 0)
  t.ok(
    texts.every((text) => stored.startsWith(text)),
    'right at every moment',
  )
})

t.test(
  'a socket that joins while its chat is being told is set aside too when it is slow',
  async (t) => {
    const { script, finish } = endless()
    const { app, url, user, newChat, post } = await startConversation(t, {}, { script })
    t.teardown(finish)
    const chatId = await newChat()
    const first = await connect(t, url, user.token)
    await ask(first, 'join-chat', { chatId })
    const heard = hear(first, 'message-chunk')
    await post(chatId, { content: 'go' })
    await heard
    const late = await connect(t, url, user.token)
    await ask(late, 'join-chat', { chatId })
    const serverSide = app.io.sockets.sockets.get(late.id ?? '')
    if (!serverSide) return t.fail('no such socket')
    tcpOf(late).pause()
    await eventually('it is set aside', () => !serverSide.rooms.has(chatId))
    t.ok(serverSide.connected)
  },
)

t.test('slow sockets that are owed the same frame are sent it at once', async (t) => {
  const { script, finish } = endless()
  const { app, url, user, newChat, post } = await startConversation(t, {}, { script })
  t.teardown(finish)
  const chatId = await newChat()
  const sockets = await Promise.all(Array.from({ length: 8 }, () => connect(t, url, user.token)))
  for (const socket of sockets) await ask(socket, 'join-chat', { chatId })
  const ids = new Set(sockets.map(({ id }) => id))
  const serverSides = [...app.io.sockets.sockets.values()]
  let most = 0
  const { adapter } = app.io.sockets
  const broadcast = adapter.broadcast.bind(adapter)
  adapter.broadcast = (packet, options) => {
    const slow = [...options.rooms].filter((room) => ids.has(room as string))
    if (packet.data?.[0] === 'message-chunk') most = Math.max(most, slow.length)
    broadcast(packet, options)
  }
  await post(chatId, { content: 'go' })
  // How far each got depends on the kernel: once, all may differ.
  for (let round = 0; round < 20 && most < 2; round++) {
    const paused = sockets.map((socket) => tcpOf(socket).pause())
    await eventually('all are set aside', () =>
      serverSides.every(({ rooms }) => !rooms.has(chatId)),
    )
    for (const tcp of paused) tcp.resume()
    await eventually('some share a frame, or all have caught up', () => {
      return most > 1 || serverSides.every(({ rooms }) => rooms.has(chatId))
    })
  }
  t.ok(most >= 2, `${most} at once`)
})

t.test('who asks and never reads is answered no further, and cut off', async (t) => {
  const script: Script = function* () {
    yield { content: piece.repeat(50) }
    yield { wait: never }
  }
  const { app, url, user, newChat, post } = await startConversation(t, {}, { script })
  const chatId = await newChat()
  await post(chatId, { content: 'go' })
  const { socket, join } = await connectDeaf(url, user.token, chatId)
  t.teardown(() => socket.destroy())
  const [serverSide] = app.io.sockets.sockets.values()
  if (!serverSide) return t.fail('no such socket')
  let most = 0
  let asked = 0
  await eventually('it is cut off', () => {
    for (let n = 0; n < 5; n++, asked++) join()
    most = Math.max(most, backlogOf(serverSide.conn).bytes)
    return !serverSide.connected
  })
  t.comment(`cut off after ${asked} questions`)
  const answer = Buffer.byteLength(piece) * 50
  t.ok(most > 0 && most < 2 * answer, `at most ${most} bytes waited, of answers of ${answer}`)
})

t.test('a stream that is not read is cut off in the end', async (t) => {
  const limits: number[] = []
  let closed = false
  // Thirty seconds, a hundred times as fast until it is cut off.
  let timesFaster = 100
  const { script, finish } = endless()
  t.teardown(finish)
  const { url, user, newChat, post, messagesOf } = await startConversation(
    t,
    {},
    { script },
    (app) =>
      app.addHook('onRequest', async (_request, { raw }) => {
        const setTimeout = raw.setTimeout.bind(raw)
        raw.once('close', () => {
          closed ||= !raw.writableFinished
        })
        raw.setTimeout = (ms, end) => {
          limits.push(ms)
          return setTimeout(ms / timesFaster, end)
        }
      }),
  )
  const { body } = await post<Turn>(await newChat(), { content: 'go' })
  const { id, chatId } = body.reply
  const path = `${messagesOf(chatId)}/${id}/stream`
  const deaf = await followDeaf(url, user.token, path)
  t.teardown(() => deaf.destroy())
  await eventually('it is cut off', () => closed)
  t.same(limits, [30_000])
  timesFaster = 1
  finish()
  const answer = await fetch(url + path, { headers: user.headers })
  t.match(await answer.text(), /"status":"complete"/, 'and can come again')
})
