import { io, type Socket } from 'socket.io-client'
import type { Message, MessageChunk, MessageStart } from '../../schemas/messages.js'
import { patienceMs } from './eventually.js'

interface Teardown {
  teardown(fn: () => void): void
}

/** A connected socket.io client, closed with its test. */
export async function connect(
  t: Teardown,
  url: string,
  token: string,
  options: object = {},
): Promise<Socket> {
  const socket = io(url, { auth: { token }, transports: ['websocket'], forceNew: true, ...options })
  t.teardown(() => socket.disconnect())
  await hear(socket, 'connect')
  return socket
}

/** The arguments of a socket's next event of a name. */
export function hear(socket: Socket, event: string): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    // An event that nobody waits for any more keeps no process.
    const timer = setTimeout(() => reject(new Error(`no ${event} came`)), patienceMs).unref()
    socket.once(event, (...args: unknown[]) => {
      clearTimeout(timer)
      resolve(args)
    })
  })
}

/** Sends an event and answers with its acknowledgement. */
export function ask(socket: Socket, event: string, ...payload: unknown[]) {
  return socket.timeout(patienceMs).emitWithAck(event, ...payload)
}

/** All that a socket hears of its chats, in order. */
export function record(socket: Socket) {
  const messages: Message[] = []
  const starts: MessageStart[] = []
  const chunks: MessageChunk[] = []
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const look of waiting) look()
  }
  socket.on('message', (message: Message) => messages.push(message) && wake())
  socket.on('message-start', (start: MessageStart) => starts.push(start) && wake())
  socket.on('message-chunk', (chunk: MessageChunk) => chunks.push(chunk) && wake())

  /** Resolves when `found` answers with something. */
  function until<T>(found: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        waiting.delete(look)
        clearTimeout(timer)
      }
      const look = () => {
        const value = found()
        if (value === undefined) return
        stop()
        resolve(value)
      }
      const timer = setTimeout(() => {
        stop()
        reject(new Error(`not heard: ${found}`))
      }, patienceMs)
      waiting.add(look)
      look()
    })
  }

  return {
    messages,
    starts,
    chunks,
    until,
    /** A message's record once it was told. */
    message: (id: string) => until(() => messages.find((message) => message.id === id)),
    /** The first frame of a reply. */
    chunk: (id: string) => until(() => chunks.find((chunk) => chunk.messageId === id)),
    /** A reply's text as its frames made it. */
    text: (id: string) =>
      chunks
        .filter((chunk) => chunk.messageId === id && !chunk.thinking)
        .map((chunk) => chunk.delta)
        .join(''),
  }
}
