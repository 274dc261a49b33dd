import {
  ChatClient,
  ChatError,
  type ClientEvents,
  type Message,
  type ServerEvents,
  storedTokens,
} from 'durable-chat-client'
import { io, type Socket } from 'socket.io-client'

/** Only compiled: what a strict program may and may not write. */
export async function typed(url: string, token: string): Promise<Message[]> {
  const socket: Socket<ServerEvents, ClientEvents> = io(url, {
    auth: { token },
    ackTimeout: 5000,
  })
  socket.on('message-chunk', ({ delta, offset }) => delta.length + offset)
  // @ts-expect-error There is no such event.
  socket.on('message-chunks', () => {})
  const answer = await socket.emitWithAck('join-chat', { chatId: '1' })
  if (!answer.ok) throw new Error(answer.error.message)
  const texts: string[] = answer.active.map(({ text }) => text)
  // @ts-expect-error The content is missing.
  socket.emit('chat-message', { chatId: '1' }, () => {})

  const client = new ChatClient({ url, tokens: storedTokens(localStorage) })
  try {
    const chat = await client.rest.createChat({ title: texts.join() })
    await client.rest.updateChat(chat.id, { model: null })
    // @ts-expect-error There is no such option.
    await client.rest.updateChat(chat.id, { options: { heat: 1 } })
    const { messages } = await client.rest.readChat(chat.id)
    for await (const { title } of client.chats()) texts.push(title ?? '')
    return messages
  } catch (error) {
    if (error instanceof ChatError) texts.push(error.code, error.requestId ?? '')
    throw error
  }
}
