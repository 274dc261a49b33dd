import { once } from 'node:events'
import { WebSocket } from 'ws'
import type { Conversation, Ear, Slot } from './hear.js'

/*
 * As much of Socket.IO's protocol as a client needs, over a WebSocket, so that the load costs less
 * than what it measures. Packets: `0` opens, `40` connects, `2` is a ping and `3` its pong, `42` is
 * an event and `43` an acknowledgement.
 */

/** Connects a socket; resolves once the server has let it in. */
export async function connect(
  url: string,
  token: string,
  onPacket: (packet: string) => void = () => {},
): Promise<WebSocket> {
  const address = `${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`
  const socket = new WebSocket(address, { perMessageDeflate: false })
  // What is wrong with a connection shows in its close.
  socket.on('error', () => {})
  await new Promise<void>((resolve, reject) => {
    socket.once('close', () => reject(new Error(`${url} closed a socket`)))
    socket.on('message', (data: Buffer) => {
      const packet = data.toString()
      if (packet === '2') socket.send('3')
      else if (packet.startsWith('0')) socket.send(`40${JSON.stringify({ token })}`)
      else if (packet.startsWith('40')) resolve()
      else if (packet.startsWith('44')) reject(new Error(`${url} refused a socket: ${packet}`))
      else onPacket(packet)
    })
  })
  return socket
}

const chunkEvent = '42["message-chunk",'
const messageEvent = '42["message",'

/** One device in a chat; @param ear what hears it, or undefined when it only takes what comes. */
export async function joinChat(
  { url, token, chatId, hearAt }: Slot,
  ear: Ear | undefined,
  onChars: (chars: number) => void,
): Promise<Conversation> {
  const waiting = new Map<number, (answer: { ok: boolean }) => void>()
  let lastId = 0

  function take(packet: string) {
    if (packet.startsWith(chunkEvent)) {
      const [{ delta }] = JSON.parse(`[${packet.slice(chunkEvent.length)}`)
      if (ear) ear.text(delta)
      else onChars(delta.length)
    } else if (packet.startsWith(messageEvent)) {
      const [{ role, status }] = JSON.parse(`[${packet.slice(messageEvent.length)}`)
      if (role === 'assistant') ear?.ended(status === undefined || status === 'complete')
    } else takeAnswer(packet)
  }

  function takeAnswer(packet: string) {
    if (!packet.startsWith('43')) return
    const start = packet.indexOf('[')
    const id = Number(packet.slice(2, start))
    waiting.get(id)?.(JSON.parse(packet.slice(start))[0])
    waiting.delete(id)
  }

  const hearing = await connect(hearAt ?? url, token, take)
  // Sending joins the room too, where nothing then is to be heard.
  const sending = hearAt ? await connect(url, token, takeAnswer) : hearing
  const emit = (socket: WebSocket, event: string, payload: object) =>
    new Promise<{ ok: boolean }>((resolve) => {
      const id = lastId++
      waiting.set(id, resolve)
      socket.send(`42${id}${JSON.stringify([event, payload])}`)
    })

  const { ok } = await emit(hearing, 'join-chat', { chatId })
  if (!ok) throw new Error(`${hearAt ?? url} lets nobody into the chat ${chatId}`)
  return {
    send(content, options) {
      ear?.sending()
      const message = { chatId, content, ...(options && { options }) }
      void emit(sending, 'chat-message', message).then((answer) => {
        if (!answer.ok) ear?.ended(false)
      })
    },
    pause: () => hearing.pause(),
    close: () => {
      hearing.terminate()
      sending.terminate()
    },
  }
}

/** Resolves when a socket is closed. */
export async function closed(socket: WebSocket): Promise<void> {
  if (socket.readyState !== WebSocket.CLOSED) await once(socket, 'close')
}
