import { serveChats } from './chat-server.js'
import { settings } from './settings.js'

/* The usual way: fetch with TextDecoder, and `io.to(room).emit` for every token. */
serveChats(async ({ io, chatId, messageId, body }) => {
  const answer = await fetch(`${settings.ollama}/api/chat`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body,
  })
  if (!answer.ok || !answer.body) throw new Error(`Ollama answered ${answer.status}`)
  const decoder = new TextDecoder()
  let buffered = ''
  let text = ''
  for await (const chunk of answer.body) {
    buffered += decoder.decode(chunk, { stream: true })
    const lines = buffered.split('\n')
    buffered = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') continue
      const { message } = JSON.parse(line)
      if (!message?.content) continue
      text += message.content
      io.to(chatId).emit('message-chunk', { chatId, messageId, delta: message.content })
    }
  }
  return text
})
