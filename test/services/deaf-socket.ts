import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { patienceMs } from './eventually.js'

/** A text frame of a WebSocket's client, masked with zeros. */
function frame(text: string): Buffer {
  const payload = Buffer.from(text)
  const { length } = payload
  const head = length < 126 ? [0x80 | length] : [0x80 | 126, length >> 8, length & 255]
  return Buffer.concat([Buffer.of(0x81, ...head, 0, 0, 0, 0), payload])
}

/** Resolves when the socket has received `text`; rejects when it closes before. */
async function receive(socket: Socket, text: string): Promise<void> {
  const closed = new AbortController()
  const close = () => closed.abort(new Error(`the connection was closed before ${text}`))
  socket.once('close', close)
  let received = ''
  try {
    while (!received.includes(text)) {
      received += (await once(socket, 'data', { signal: closed.signal }))[0]
    }
  } finally {
    socket.off('close', close)
  }
}

/** The request that begins a WebSocket of Socket.io; @param sid of the polling session it upgrades. */
const upgradeRequest = (url: string, sid?: string) =>
  [
    `GET /socket.io/?EIO=4&transport=websocket${sid ? `&sid=${sid}` : ''} HTTP/1.1`,
    `Host: ${new URL(url).host}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    '\r\n',
  ].join('\r\n')

async function open(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.setTimeout(patienceMs, () => socket.destroy(new Error('no answer')))
  await once(socket, 'connect')
  return socket
}

/** Stops reading: what the kernel does not buffer waits in the server. */
function deafen(socket: Socket): Socket {
  socket.setTimeout(0)
  // The server may cut it off.
  socket.on('error', () => {})
  return socket.pause()
}

/** A client of server-sent events that hears the first one, and then never reads again. */
export async function followDeaf(url: string, token: string, path: string): Promise<Socket> {
  const socket = await open(url)
  const begun = receive(socket, 'event: ')
  socket.write(
    [
      `GET ${path} HTTP/1.1`,
      `Host: ${new URL(url).host}`,
      `Authorization: Bearer ${token}`,
      'Accept: text/event-stream',
      '\r\n',
    ].join('\r\n'),
  )
  await begun
  return deafen(socket)
}

/** A Socket.io client of raw frames that joins a chat and then never reads again. */
export async function connectDeaf(url: string, token: string, chatId: string) {
  const socket = await open(url)
  const opened = receive(socket, '"pingInterval"')
  socket.write(upgradeRequest(url))
  await opened
  const admitted = receive(socket, '40{"sid"')
  socket.write(frame(`40${JSON.stringify({ token })}`))
  await admitted
  const joined = receive(socket, '430[{"ok":true')
  const join = frame(`420${JSON.stringify(['join-chat', { chatId }])}`)
  socket.write(join)
  await joined
  return { socket: deafen(socket), join: () => socket.write(join) }
}

/** A polling client that begins to upgrade to a WebSocket and never finishes. */
export async function upgradeHalfway(url: string, token: string): Promise<Socket> {
  const polling = `${url}/socket.io/?EIO=4&transport=polling`
  const opened = await (await fetch(polling)).text()
  const { sid } = JSON.parse(opened.slice(1)) as { sid: string }
  const session = `${polling}&sid=${sid}`
  await fetch(session, { method: 'POST', body: `40${JSON.stringify({ token })}` })
  await (await fetch(session)).text()
  const socket = await open(url)
  const upgraded = receive(socket, '101 Switching Protocols')
  socket.write(upgradeRequest(url, sid))
  await upgraded
  const answered = receive(socket, '3probe')
  socket.write(frame('2probe'))
  await answered
  return deafen(socket)
}
